"""Who lives in the world: names, what they care about, what they say of themselves."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from random import Random

from appliance.devnet.phrases import LANGUAGES, TOPICS

_FIRST = [
    "Mara",
    "Jonas",
    "Aiko",
    "Elif",
    "Tomás",
    "Priya",
    "Noah",
    "Ines",
    "Kofi",
    "Lena",
    "Mateo",
    "Yuki",
    "Sofia",
    "Emeka",
    "Freya",
    "Luca",
    "Amara",
    "Oskar",
    "Nadia",
    "Theo",
    "Leila",
    "Hugo",
    "Zoé",
    "Ravi",
    "Anouk",
    "Felix",
    "Chidi",
    "Marta",
    "Sven",
    "Hana",
    "Diego",
    "Ida",
    "Omar",
    "Clara",
    "Kenji",
    "Paula",
    "Ewan",
    "Samira",
    "Bruno",
    "Ayşe",
    "Milan",
    "Greta",
    "Tariq",
    "Noor",
    "Emil",
    "Valeria",
    "Jun",
    "Astrid",
    "Malik",
    "Vera",
    "Pablo",
    "Signe",
    "Dario",
    "Imani",
    "Rosa",
    "Viktor",
    "Mei",
    "Adrián",
    "Nora",
    "Kwame",
    "Elsa",
    "Farid",
    "Júlia",
    "Anders",
    "Thandi",
    "Marco",
    "Lin",
    "Beatriz",
    "Stefan",
    "Akira",
    "Olga",
    "Yara",
    "Henrik",
    "Lucía",
    "Ibrahim",
    "Selma",
    "Rui",
    "Daria",
    "Patrick",
    "Naomi",
    "Ezra",
    "Fiona",
    "Goran",
    "Hélène",
    "Ishaan",
    "Kaja",
    "Liam",
    "Mirela",
    "Nils",
    "Odile",
    "Petra",
    "Quentin",
    "Rina",
    "Salim",
    "Tove",
    "Uma",
    "Wanda",
    "Xavier",
    "Zeynep",
]
_LAST = [
    "Lindqvist",
    "Okafor",
    "Tanaka",
    "Moreau",
    "Silva",
    "Yıldız",
    "Weber",
    "Rossi",
    "Novak",
    "Haddad",
    "Iyer",
    "Castillo",
    "Berg",
    "Mensah",
    "Kowalska",
    "Duarte",
    "Nakamura",
    "Fischer",
    "Olsen",
    "Rahman",
    "Costa",
    "Petrov",
    "Nguyen",
    "Laurent",
    "Vega",
    "Schmitt",
    "Adeyemi",
    "Ferrari",
    "Horvat",
    "Johansson",
    "Reyes",
    "Kaya",
    "Bauer",
    "Santos",
    "Park",
    "Dubois",
    "Marín",
    "Eriksen",
    "Banerjee",
    "Keita",
    "Popescu",
    "Vidal",
    "Larsen",
    "Cohen",
    "Almeida",
    "Wolf",
    "Ortiz",
    "Sato",
    "Jansen",
    "Farah",
]
_LETTERS = str.maketrans("ıøł", "iol")
_ROLES = {
    "birds": ("counts birds before work", "patient with binoculars"),
    "baking": ("sourdough and other slow things", "will talk about flour"),
    "code": ("writes software, deletes more", "small programs, long walks"),
    "books": ("reads on trains", "three books at once, finishes one"),
    "cycling": ("commutes by bicycle in all weather", "slow cyclist"),
    "trains": ("night trains over flights", "timetables as literature"),
    "film": ("sits in the third row", "watches the credits"),
    "music": ("plays bass, badly on purpose", "collects field recordings"),
    "garden": ("grows too many tomatoes", "balcony gardener"),
    "stars": ("small telescope, dark skies", "up late for meteor showers"),
    "football": ("goalkeeper of a Sunday team", "supports the wrong club"),
    "coffee": ("hand grinder, strong opinions", "third cup"),
    "maps": ("draws maps of places that exist", "geography by foot"),
    "craft": ("knits during meetings", "mends things"),
    "photo": ("film cameras, natural light", "photographs empty places"),
    "pets": ("two cats, one opinion", "the dog chose me"),
}
_PLACES = [
    "Lisbon",
    "Ghent",
    "Kyoto",
    "Montréal",
    "Gdańsk",
    "Bergen",
    "Turin",
    "Accra",
    "Valparaíso",
    "Leipzig",
    "Galway",
    "Tampere",
    "Zagreb",
    "Nantes",
    "Bilbao",
    "Utrecht",
    "Malmö",
    "Ljubljana",
    "Wellington",
    "Porto",
]
_BIOS = (
    "{a}. {b}. {place}.",
    "{a} in {place}. {b}.",
    "{place} · {a} · {b}",
    "{b}. Mostly {topic}, sometimes {other}. {place}.",
    "{a}; {b}. Posts are my own fault.",
    "She/they, {place}. {a}.",
    "{topic}, {other} and the weather in {place}. {a}.",
)


@dataclass(frozen=True, slots=True)
class Person:
    """One person. ``pace`` is how much they post beside others."""

    handle: str
    name: str
    bio: str
    topics: tuple[str, ...]
    languages: tuple[str, ...]
    pace: float


def invent(random: Random, count: int) -> list[Person]:
    """So many people with different handles."""
    people: list[Person] = []
    handles: set[str] = set()
    names = list(_FIRST)
    # The first few keep their plain names, so that a demo's members are easy to type.
    rest = names[6:]
    random.shuffle(rest)
    names[6:] = rest
    while len(people) < count:
        index = len(people)
        first, last = names[index % len(names)], random.choice(_LAST)
        handle = _plain(first) if index < len(names) else f"{_plain(first)}-{_plain(last)}"
        if handle in handles:
            handle = f"{handle}{random.randint(2, 99)}"
        if handle in handles:
            continue
        handles.add(handle)
        people.append(_person(random, index, f"{handle}.test", f"{first} {last}"))
    return people


def _person(random: Random, index: int, handle: str, name: str) -> Person:
    topics = tuple(random.sample(sorted(TOPICS), random.randint(2, 4)))
    languages: tuple[str, ...] = ("en",)
    if index > 3 and random.random() < 0.3:
        other = random.choice(sorted(LANGUAGES))
        languages = (other,) if random.random() < 0.3 else ("en", other)
    a, b = (random.choice(_ROLES[topic]) for topic in topics[:2])
    bio = random.choice(_BIOS).format(
        a=a.capitalize(), b=b.capitalize(), place=random.choice(_PLACES), topic=topics[0], other=topics[1]
    )
    bio = bio[0].upper() + bio[1:]
    style = random.random()
    if style < 0.15:
        name = name.split()[0]
    elif style < 0.22:
        name = f"{name.split()[0]} {random.choice('🌿🚲📚🎧🌙🥖🔭🧶☕🐈')}"
    return Person(handle, name, bio, topics, languages, random.lognormvariate(0, 0.7))


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS))
    return "".join(letter for letter in letters if letter.isascii() and letter.isalpha())
