"""Words and codes that addresses are made of."""

from __future__ import annotations

from typing import Final

TYPES_BEHIND: Final = (
    "street|st|str|avenue|ave|av|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|place|pl|square|sq"
    "|terrace|ter|trail|trl|parkway|pkwy|highway|hwy|way|close|crescent|cres|circle|cir|gardens|gdns"
    "|grove|hill|mews|row|quay|walk|alley|aly|plaza|plz|turnpike|tpke|esplanade|parade|loop|path"
    "|pike|vale|green|wharf|bypass|causeway|crossing|expressway|freeway|heights|junction|knoll"
    "|landing|manor|meadow|meadows|motorway|promenade|ridge|route|spur|vista"
)
"""Types of streets behind the name (USPS Publication 28, appendix C1; BS 7666; AS 4590)."""

_PLAIN_TYPES: Final = """
street avenue road lane drive boulevard crescent parkway highway terrace close st ave rd
"""
PLAIN_TYPES: Final = frozenset(_PLAIN_TYPES.split())
"""Types that are hardly used in another sense, so that names may be in lower case."""

TYPES_BEFORE_NAME: Final = (
    "rue|avenue|av|boulevard|bd|place|chemin|impasse|allée|allee|quai|route|cours|passage|square"
    "|sentier|ruelle|faubourg|esplanade|voie|montée|villa"
)
"""French: the number, the type, the name (La Poste, norm NF Z10-011)."""

TYPES: Final = frozenset(f"{TYPES_BEHIND}|{TYPES_BEFORE_NAME}".split("|"))
"""Both."""

PARTICLES: Final = "an|am|auf|de|del|der|di|do|da|du|en|im|la|le|of|on|sur|the|under|upon|y"
"""Words within the names of towns that have no capital."""

PARTICLES_FIRST: Final = frozenset(
    ("de", "del", "della", "dei", "delle", "di", "da", "das", "do", "dos", "la", "las", "los")
)
"""What the name of a street may begin with behind its type."""

_TYPES_FIRST: Final = """
calle c/ avenida avda avda. av. av paseo pº plaza carrer camino carretera ronda rambla travesía
via viale piazza corso vicolo largo strada piazzale contrada rua r. travessa alameda estrada praça
praca rodovia ul. ul ulica al. aleja os. osiedle plac strada str. bulevardul calea jalan jl. jl
улица ул. ул проспект пр. пр-т переулок пер. бульвар шоссе вул. вулиця
"""
TYPES_FIRST: Final = frozenset(_TYPES_FIRST.split())
"""Type, name, number: Spanish, Italian, Portuguese, Polish, Romanian, Indonesian, Russian."""

ENDINGS: Final = (
    *("straße", "strasse", "str", "weg", "gasse", "platz", "allee", "ufer", "damm", "steig"),
    *("chaussee", "straat", "laan", "gracht", "plein", "kade", "singel"),
    *("steenweg", "dreef", "vej", "gade", "vænget", "gatan", "vägen", "gränd", "stigen", "gata"),
    *("veien", "vegen", "gaten", "katu", "kuja", "polku", "stræde", "alléen", "götu", "vegi"),
)
"""What names of streets end in where type and name are one word: German, Dutch, Nordic."""

_ENDING_WORDS: Final = """
straße strasse str weg allee platz ring straat laan plein vej allé gata väg tie utca út u tér krt
körút ulice nám náměstí třída
"""
ENDING_WORDS: Final = frozenset(_ENDING_WORDS.split())
"""The same as words of their own."""

_NO_STREETS: Final = """
arbeitsplatz parkplatz sitzplatz stellplatz spielplatz sportplatz stehplatz umweg ausweg gehweg
radweg feldweg heimweg rückweg lösungsweg gleisdamm
"""
NO_STREETS: Final = frozenset(_NO_STREETS.split())
"""German words that end so and are no street's name."""

_PROSE_TYPES: Final = """
via largo strada r. al. plac str. av av. al ul plaza camino
"""
PROSE_TYPES: Final = frozenset(_PROSE_TYPES.split())
"""Types before a name that are words of other languages too: with a capital only."""

BOXES: Final = (
    *("p.o. box", "po box", "p.o.box", "p. o. box", "pobox", "post office box", "postal box"),
    *("gpo box", "locked bag", "private bag", "postfach", "boîte postale", "b.p.", "bp"),
    *("apartado", "apartado postal", "apartado de correos", "casella postale", "c.p."),
    *("caixa postal", "postbus", "postboks", "postbox", "box postale", "skrytka pocztowa"),
    *("postilokero", "\u0430/\u044f", "абонентский ящик"),
)
"""What stands before the number of a post-office box."""

_STATES: Final = """
AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC
ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY DC AS GU MP PR VI FM MH PW AA AE AP
"""
STATES: Final = frozenset(_STATES.split())
"""States, territories and the forces' regions (USPS Publication 28, appendix B)."""

_UK_AREAS: Final = """
AB AL B BA BB BD BF BH BL BN BR BS BT BX CA CB CF CH CM CO CR CT CV CW DA DD DE DG DH DL DN DT DY
E EC EH EN EX FK FY G GL GU GY HA HD HG HP HR HS HU HX IG IM IP IV JE KA KT KW KY L LA LD LE LL LN
LS LU M ME MK ML N NE NG NN NP NR NW OL OX PA PE PH PL PO PR RG RH RM S SA SE SG SK SL SM SN SO SP
SR SS ST SW SY TA TD TF TN TQ TR TS TW UB W WA WC WD WF WN WR WS WV YO ZE
"""
UK_AREAS: Final = frozenset(_UK_AREAS.split())
"""Areas of British postcodes (Royal Mail, Postcode Address File)."""

UNITS: Final = (
    "apt|apartment|suite|ste|unit|flat|floor|fl|room|rm|bldg|building|lot|box|appt|app|wohnung|piso"
    "|int|interno|etg|lgh|bus|door"
)
"""What is within a building (USPS Publication 28, appendix C2)."""
