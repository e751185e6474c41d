"""How telephone numbers are written: calling codes, lengths, words around, groups of digits."""

from __future__ import annotations

from functools import cache
from typing import Final

from lamella_middlewares.pii._detect._near import Near

_LENGTHS: Final = """
1:10 7:10 20:8-10 27:9 30:10 31:9 32:8-9 33:9 34:9 36:8-9 39:6-12 40:9 41:9-10 43:4-13 44:7-10 45:8
46:7-10 47:5-8 48:9 49:4-13 51:8-9 52:10-11 53:6-8 54:10-11 55:10-11 56:8-9 57:8-10 58:10 60:7-10
61:5-9 62:7-12 63:8-10 64:8-10 65:8-11 66:8-9 81:9-10 82:8-11 84:7-10 86:5-12 90:10 91:8-10 92:8-11
93:9 94:9 95:7-10 98:10 211:9 212:9 213:8-9 216:8 218:8-9 220:7 221:9 222:8 223:8 224:8-9 225:10
226:8 227:8 228:8 229:8-10 230:7-8 231:7-9 232:8 233:9 234:8-10 235:8 236:8 237:8-9 238:7 239:7
240:9 241:7-8 242:9 243:9 244:9 245:7-9 246:7 247:4-5 248:7 249:9 250:9 251:9 252:7-9 253:8 254:9
255:9 256:9 257:8 258:8-9 260:9 261:9-10 262:9 263:5-10 264:6-10 265:7-9 266:8 267:7-8 268:8 269:7
290:4-5 291:7 297:7 298:6 299:6 350:8 351:9 352:4-11 353:7-11 354:7-9 355:3-9 356:8 357:8 358:5-12
359:7-9 370:8 371:8 372:7-10 373:8 374:8 375:9-11 376:6-9 377:8-9 378:6-10 380:9 381:4-12 382:4-12
383:8-9 385:8-9 386:8 387:8-9 389:8 420:9 421:9 423:7-9 500:5 501:7 502:8 503:7-11 504:8 505:8
506:8 507:7-8 508:6 509:8 590:9 591:8 592:7 593:8-9 594:9 595:5-9 596:9 597:6-7 598:4-11 599:7-8
670:7-8 672:6 673:7 674:7 675:4-11 676:5-7 677:5-7 678:5-7 679:7 680:7 681:6 682:5 683:4-5 685:5-7
686:5-8 687:6 688:5-6 689:6-8 690:4-5 691:7 692:7 850:8-10 852:5-9 853:8 855:8-9 856:8-10 880:6-10
886:8-9 960:7 961:7-8 962:5-9 963:8-10 964:8-10 965:7-8 966:9 967:7-9 968:7-8 970:8-9 971:5-12
972:7-12 973:8 974:7-8 975:8-9 976:8-10 977:8-10 992:9 993:8 994:9 995:9 996:9 998:9
800:8 870:9 878:12 881:8 882:7-12 883:7-12 888:8 979:9
"""
"""Calling codes with how many digits follow (ITU-T E.164 and the national numbering plans that its
secretariat publishes under E.129). No calling code begins another one."""

MOST_DIGITS: Final = 15
"""Digits of an international number, calling code included (ITU-T E.164, 6.2.1)."""


@cache
def calling_codes() -> dict[str, tuple[int, int]]:
    """For each calling code the least and the most digits that follow."""
    plans: dict[str, tuple[int, int]] = {}
    for entry in _LENGTHS.split():
        code, lengths = entry.split(":")
        least, _, most = lengths.partition("-")
        plans[code] = int(least), int(most or least)
    return plans


def national_lengths(digits: str) -> tuple[str, int, int] | None:
    """The calling code that digits begin with, and how many may follow; None if there is none."""
    plans = calling_codes()
    for length in (1, 2, 3):
        found = plans.get(digits[:length])
        if found is not None and len(digits) >= length:
            return digits[:length], *found
    return None


_NAMES: Final = (
    *("phone", "phones", "phone number", "telephone", "telephones", "tel", "tele", "telno"),
    *("mobile", "mobiles", "cell", "cellphone", "cellular", "fax", "telefax", "landline"),
    *("whatsapp", "sms", "hotline", "helpline", "voicemail", "switchboard", "pager", "viber"),
    *("telegram", "contact number", "home number", "work number", "office number"),
    *("callback number", "call back number", "msisdn", "caller id", "phonenumber"),
    *("telefon", "telefonnummer", "telefonisch", "telefonnr", "handy", "handynummer", "mobil"),
    *("mobilnummer", "rufnummer", "festnetz", "durchwahl", "anruf", "téléphone", "telephone"),
    *("tél", "portable", "télécopie", "fixe", "teléfono", "telefono", "tfno", "móvil", "movil"),
    *("celular", "cellulare", "telefone", "telemóvel", "telemovel", "fijo", "telefoon"),
    *("telefoonnummer", "mobiel", "mobieltje", "gsm", "puhelin", "matkapuhelin"),
    *(
        "puhelinnumero",
        "puh",
        "tlf",
        "tlfnr",
        "mobiltelefon",
        "telefonnummeret",
        "telefonní",
        "mobilní",
    ),
    *(
        "sími",
        "farsími",
        "telefonu",
        "komórka",
        "komórkowy",
        "telefonszám",
        "mobilszám",
        "τηλέφωνο",
    ),
    *("τηλ", "κινητό", "телефон", "телефона", "телефону", "тел", "моб", "мобильный", "факс"),
    *("cep", "cep telefonu", "هاتف", "الهاتف", "جوال", "موبايل", "טלפון", "נייד", "फ़ोन", "फोन"),
    *("मोबाइल", "โทร", "โทรศัพท์", "điện thoại", "sđt", "電話", "電話番号", "携帯", "携帯電話"),
    *("电话", "手机", "手机号", "手机号码", "聯絡電話", "전화", "전화번호", "휴대폰"),
    *("핸드폰", "nomor hp", "nomor telepon"),
)
NAMED: Final = Near(_NAMES, before=40, after=16)
"""Words that name a telephone, before or directly behind its number."""

_VERBS: Final = (
    *("call", "calls", "called", "calling", "dial", "dialled", "dialed", "dialing", "ring"),
    *("rang", "phoned", "text", "texted", "texting", "message", "messages", "messaged"),
    *("reach", "reached", "contact", "contacted", "answer", "answering", "answered"),
    *("ruf", "rufen", "anrufen", "angerufen", "erreichen", "erreichbar", "appeler", "appelez"),
    *("appelle", "joindre", "joignable", "llamar", "llama", "llámame", "llame", "chiamare"),
    *("chiama", "chiamami", "ligar", "ligue", "bel", "bellen", "ring", "ringe", "soita"),
    *("zadzwoń", "zavolejte", "позвоните", "звоните", "звонить", "allô", "اتصل", "致电"),
    *("拨打", "打电话", "電話して"),
)
ASKED: Final = Near(_VERBS, before=28)
"""Words of calling and answering, which are said of other things too: only shortly before."""

_PLACES: Final = (
    *("office", "home", "work", "desk", "direct", "mobile", "cell", "fax", "tel", "phone", "mob"),
)
BEHIND: Final = Near(_PLACES, before=0, after=12)
"""Words directly behind a number that say which telephone it is."""

WORDED: Final = Near((*_NAMES, *_VERBS, *_PLACES), before=40, after=16)
"""Any of those words: without one, the number has to speak for itself."""

EXTENSION: Final = (
    r"[ \t,;]{0,2}(?:x|ext|extn|extension|poste|ramal|\u0434\u043e\u0431|anexo|durchwahl)"
    r"[.:=]?[ \t]?#?[0-9]{1,7}"
)
"""What is dialled after the connection, in the ways that it is written behind a number."""

LAYOUTS: Final = frozenset(
    {
        *("3-3-4", "3.3.4", "3/3-4", "3 3-4", "1-3-3-4", "1.3.3.4", "1 3-3-4", "1 3.3.4"),
        *("(3)3-4", "(3) 3-4", "(3)-3-4", "(3) 3 4", "(3)3 4", "(3).3.4", "(3) 3.4", "(3)3.4"),
        *("1 (3) 3-4", "1-(3)-3-4", "1 (3)3-4", "1(3)3-4", "1 (3) 3 4"),
    }
)
"""Groups of digits as North American numbers are written (NANPA), which little else is."""

SPACED: Final = frozenset({"3 3 4", "1 3 3 4"})
"""The same with spaces only, where the digits have to be such a number too."""

GROUPED_IN: Final[dict[tuple[int, ...], tuple[str, ...]]] = {
    (2, 2, 2, 2): ("DK", "NO"),
    (2, 4, 4): ("MX", "BR"),
    (2, 5, 4): ("BR",),
    (3, 2, 3): ("NO",),
    (3, 3, 2, 2): ("RU",),
    (3, 3, 4): ("US", "IT", "MX", "TR"),
    (3, 7): ("IT",),
    (5, 5): ("IN",),
}
"""Groups of national numbers without a leading 0, and where they are written so (E.123 and the
formats in libphonenumber). Without nine digits in threes, as in Spain or Poland: so is any number
written."""
