"""Texts of our own: chats in several languages, all kinds, and what only looks like one.

None of it is taken from the detectors: sentences are what people write to an assistant, values are
made by `values`, and look-alikes are the numbers and names that a day's work is full of.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from benchmarks.pii.gold import Sample, Span
from benchmarks.pii.values import VALUES

SENTENCES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "email": (
            "Please write to {} instead.",
            "meine Adresse ist {}, danke!",
            "Envoyez la facture à <{}>.",
            "{} kindly reply asap",
            '{{"to": "{}", "subject": "hi"}}',
            "Contacto:{};gracias",
            "请发送到{}谢谢",
        ),
        "phone": (
            "Call me at {} after six.",
            "Tel.: {}",
            "Ruf mich bitte unter {} an.",
            "Mon numéro est le {}.",
            "mi teléfono: {}, gracias",
            "WhatsApp {} or mail",
            "You can reach her mobile on {}",
            "Il mio cellulare è {}.",
        ),
        "card": (
            "My card is {}, please refund it.",
            "Kreditkarte {} wurde belastet",
            "charge {} exp 04/29 cvv 123",
            "carte bancaire n° {}",
            '{{"pan":"{}"}}',
            "Card no. {} was declined twice.",
            "tarjeta {} bloqueada",
        ),
        "iban": (
            "Transfer it to {} today.",
            "IBAN: {}",
            "Bitte auf {} überweisen.",
            "mon compte {} chez la banque",
        ),
        "us_ssn": (
            "My SSN is {}.",
            "social security number {}, born in Ohio",
            "Applicant {} has no record.",
        ),
        "us_itin": ("My ITIN is {}.", "Taxpayer number: {}", "I file with {} as I have no SSN."),
        "uk_nhs": ("NHS number {}", "The patient's NHS no. is {}.", "nhs: {}"),
        "uk_nino": ("NI number {}", "My National Insurance number is {}.", "NINO: {}"),
        "passport": (
            "Passport number {}, valid until 2031",
            "Mein Reisepass hat die Nummer {}.",
            "passeport n° {}",
            "My passport is {}.",
        ),
        "driver_licence": (
            "Driver's license {}",
            "my driving licence number is {}",
            "Führerschein Nr. {}",
            "DL {} (state of California)",
        ),
        "ip": (
            "The request came from {}.",
            "ssh root@{} times out",
            "Server {} antwortet nicht",
            "[error] client: {}, server: _",
            "ping {} -c 3",
        ),
        "mac": ("The device {} is offline.", "MAC: {}", "ether {} txqueuelen 1000"),
        "url_credentials": (
            "postgres://app:{}@db.example.com:5432/app",
            "curl https://api.example.com/v1?api_key={}&page=2",
            "Use https://bob:{}@git.example.com/repo.git to clone.",
        ),
        "url": (
            "See {} for details.",
            "Steht auf {} unter Hilfe",
            "Look at ({}).",
            "{} ne marche plus",
        ),
        "api_key": (
            "export KEY={}",
            "My key {} does not work any more.",
            'client = Client(api_key="{}")',
            "Authorization: Bearer {}",
        ),
        "jwt": ("token: {}", "Cookie: session={}; Path=/", "Why is {} invalid?"),
        "crypto_address": ("Send it to {}.", "wallet {} is mine", "donations: {}"),
        "date_of_birth": (
            "I was born on {}.",
            "DOB: {}",
            "geboren am {}",
            "date of birth {}",
            "née le {}",
            "birthday: {}",
        ),
        "postal_address": (
            "I live at {}.",
            "Ship it to {}, please.",
            "Meine Anschrift: {}",
            "Deliver to {} before noon",
        ),
    }
)
"""What is said around a value of each kind."""


def _digits(rng: random.Random, number: int) -> str:
    return str(rng.randrange(10 ** (number - 1), 10**number))


def _isbn(rng: random.Random) -> str:
    body = "978" + _digits(rng, 9)
    total = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(body))
    made = body + str(-total % 10)
    return rng.choice([made, f"{made[:3]}-{made[3]}-{made[4:8]}-{made[8:12]}-{made[12]}"])


LOOK_ALIKES: Final[tuple[Callable[[random.Random], str], ...]] = (
    lambda rng: f"Your order {_digits(rng, rng.choice([6, 8, 10, 12]))} has shipped.",
    lambda rng: f"Order no. {_digits(rng, 3)}-{_digits(rng, 7)}-{_digits(rng, 7)} is late.",
    lambda rng: f"Ticket ID {_digits(rng, 16)} was closed.",
    lambda rng: f"Invoice INV-{rng.randrange(2018, 2027)}-{_digits(rng, 6)} is open.",
    lambda rng: f"Upgrade to version {rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(99)}.",
    lambda rng: f"Chrome/{rng.randrange(80, 140)}.0.{_digits(rng, 4)}.{rng.randrange(100, 300)}",
    lambda rng: f"Build 10.0.{_digits(rng, 5)}.{_digits(rng, 4)} fails.",
    lambda rng: (
        f"The meeting is on {rng.randrange(2020, 2030)}-0{rng.randrange(1, 10)}-15 at 14:30."
    ),
    lambda rng: (
        f"Released {rng.randrange(1, 29)}.{rng.randrange(1, 13)}.{rng.randrange(1990, 2026)}"
    ),
    lambda rng: (
        f"2026-11-0{rng.randrange(1, 10)}T08:{rng.randrange(10, 60)}:12.{_digits(rng, 6)}Z ok"
    ),
    lambda rng: (
        f"at {rng.randrange(10**9, 2 * 10**9)} it began, ts={rng.randrange(10**12, 2 * 10**12)}"
    ),
    lambda rng: f"commit {rng.getrandbits(160):040x} breaks the build",
    lambda rng: f"sha256:{rng.getrandbits(256):064x}",
    lambda rng: f"md5 {rng.getrandbits(128):032x} file.bin",
    lambda rng: f"request id {uuid.UUID(int=rng.getrandbits(128), version=4)}",
    lambda rng: f"ISBN {_isbn(rng)} is out of print.",
    lambda rng: f"Tracking 1Z999AA1{_digits(rng, 10)}",
    lambda rng: f"It costs ${rng.randrange(1, 99)},{_digits(rng, 3)}.99, or 1 234 567 yen.",
    lambda rng: f"lat 52.{_digits(rng, 6)}, lon 13.{_digits(rng, 6)}",
    lambda rng: f"pi is 3.14159265358979 and e 2.71828{_digits(rng, 8)}",
    lambda rng: f"SKU {_digits(rng, 4)}-{_digits(rng, 4)}, EAN {_digits(rng, 13)}",
    lambda rng: f"see section {'.'.join(str(rng.randrange(9)) for _ in range(4))} of it",
    lambda rng: f"JIRA-{_digits(rng, 5)} and PR #{_digits(rng, 4)} are merged",
    lambda _: "std::vector<int> v; Foo::bar(); a::b",
    lambda _: "@property and @staticmethod are decorators; ping @here",
    lambda _: "Open main.py, README.md and config.yaml; then node.js e.g. v2",
    lambda rng: f"the colour #{rng.getrandbits(24):06x} at 12:30:{rng.randrange(10, 60)}",
    lambda rng: f"between {rng.randrange(1900, 1950)}-{rng.randrange(1950, 2020)} it won 3-2",
    lambda rng: f"ratio 16:9, 1080p, {_digits(rng, 4)}x{_digits(rng, 4)}, 60 fps",
    lambda rng: f"VIN 1HGCM82633A{_digits(rng, 6)} was sold",
    lambda rng: f"account number {_digits(rng, rng.choice([8, 9, 10]))} is closed",
    lambda rng: f"row {_digits(rng, 5)} of {_digits(rng, 6)}: 0x{rng.getrandbits(32):08x}",
    lambda rng: f"sizes: {', '.join(_digits(rng, 3) for _ in range(6))}",
    lambda rng: f"{_digits(rng, 4)} {_digits(rng, 4)} {_digits(rng, 4)} are the last three counts",
)
"""What is none of it."""

PROSE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "en": (
            "Could you look over this paragraph and tell me whether the argument holds together?",
            "I think the second half repeats what was said before, only with longer words.",
            "The garden is quiet in the morning, before the trains begin to run.",
            "Explain how a hash table resizes, and why lookups stay fast on average.",
            "She asked for a recipe with lentils, lemon and very little salt.",
            "def mean(values): return sum(values) / len(values)",
            "The function returns early when the list is empty, which hides the real problem.",
            "If it rains we will move the tables inside; if not, we stay under the trees.",
            "Translate the following sentence into Dutch, but keep the names as they are.",
            "Nobody knew who had left the window open, and nobody wanted to ask.",
            "Write a short poem about a lighthouse that is tired of the sea.",
        ),
        "de": (
            "Wir haben gestern lange darüber gesprochen, ohne zu einem Ergebnis zu kommen.",
            "Es gibt zwei Wege; der eine ist kürzer, der andere schöner.",
            "Kannst du den Absatz so umschreiben, dass er freundlicher klingt?",
            "Die Prüfung beginnt früh, deshalb fahren wir schon am Vorabend.",
        ),
        "fr": (
            "Il faudrait peut-être commencer par une question plus simple.",
            "La réunion est reportée, merci de prévenir toute l'équipe.",
            "Peux-tu résumer ce texte en gardant le ton de l'autrice ?",
            "Personne ne savait où était passée la clé du grenier.",
        ),
        "es": (
            "Por favor, resume el texto en tres frases y conserva el tono.",
            "Mañana no habrá clase, así que podemos empezar más tarde.",
            "¿Puedes explicar por qué la función no devuelve nada?",
        ),
    }
)
"""What people write when there is nothing in it, by language."""

_LANGUAGES: Final = ("en", "en", "en", "en", "en", "en", "de", "de", "fr", "es")
"""How often a message is in which."""


def labelled(number: int, seed: int) -> list[Sample]:
    """Short messages: about one in three has a look-alike only, the others a value each."""
    rng = random.Random(seed)
    kinds = sorted(SENTENCES)
    made: list[Sample] = []
    for place in range(number):
        pieces: list[Sample] = []
        if rng.random() < 0.5:
            pieces.append(Sample(_prose(rng)))
        if place % 3 == 0:
            pieces.append(Sample(rng.choice(LOOK_ALIKES)(rng)))
        else:
            pieces.append(planted(kinds[rng.randrange(len(kinds))], rng))
        if rng.random() < 0.3:
            pieces.append(Sample(_prose(rng)))
        made.append(joined(pieces, rng.choice([" ", "\n", " "])))
    return made


def _prose(rng: random.Random) -> str:
    return rng.choice(PROSE[rng.choice(_LANGUAGES)])


def planted(kind: str, rng: random.Random) -> Sample:
    """A sentence with a value of a kind."""
    before, after = (
        part.replace("{{", "{").replace("}}", "}") for part in _cut(rng.choice(SENTENCES[kind]))
    )
    value = VALUES[kind](rng)
    span = Span(len(before), len(before) + len(value), kind)
    return Sample(f"{before}{value}{after}", (span,))


def _cut(form: str) -> tuple[str, str]:
    """What stands before and behind the place of the value: single braces."""
    place = form.replace("{{", "\0\0").replace("}}", "\0\0").index("{}")
    return form[:place], form[place + 2 :]


def joined(pieces: list[Sample], sign: str) -> Sample:
    """One text of several."""
    text, spans = "", []
    for piece in pieces:
        text += sign if text else ""
        spans += [Span(s.start + len(text), s.end + len(text), s.kind) for s in piece.spans]
        text += piece.text
    return Sample(text, tuple(spans))


def conversation(messages: int, seed: int, *, every: int = 1) -> list[str]:
    """Messages of about a kilobyte, each in one language, with a few values, to be timed on."""
    rng = random.Random(seed)
    kinds = sorted(SENTENCES)
    made: list[str] = []
    for place in range(messages):
        prose = PROSE[rng.choice(_LANGUAGES)]
        pieces = [Sample(rng.choice(prose)) for _ in range(13)]
        if every and place % every == 0:
            for _ in range(2):
                pieces.insert(rng.randrange(len(pieces)), planted(rng.choice(kinds), rng))
            pieces.insert(rng.randrange(len(pieces)), Sample(rng.choice(LOOK_ALIKES)(rng)))
        made.append(joined(pieces, " ").text)
    return made
