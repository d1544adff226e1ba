"""Airbyte messages from a seed, at any size: what `benches/run.py` measures with.

    python3 benches/messages.py VARIANT --mb 300 [--seed 1] --out DIR

writes DIR/messages.jsonl and DIR/catalog.json. The same variant, size and seed give the same bytes.
"""

import argparse
import datetime
import itertools
import json
import os
import random

EMITTED_AT = 1_795_341_048_927
PER_MILLISECOND = 18
"""Records that the real source-faker emits with one time."""
emitted = itertools.count()
MB = 1_000_000

GIVEN = "Keira Tomás Aiko Zoë Łukasz Amélie Björn Noor Chidi Siobhán Marcus Delia Yuki Ravi Ingrid Pascal".split()
FAMILY = "Harris Møller 山田 García Okafor Nowak Dubois O'Neill Schäfer Rossi Novák Silva Haddad Kim Ivanov Berg".split()
CITIES = ["Rocky River", "San Juan", "Łódź", "São Paulo", "東京", "Nîmes", "Aarhus", "Kraków", "Springfield", "Oulu"]
STATES = ["North Dakota", "Kansas", "Ohio", "Bavaria", "Île-de-France", "Hokkaido", "Vermont", "Queensland"]
STREETS = ["San Juan", "Mission", "Elm", "Rue de l’Église", "Hauptstraße", "Lake View", "Old Mill", "5th"]
LANGUAGES = ["Bislama", "Danish", "Tamil", "Português", "Māori", "Hausa", "Dutch", "Icelandic", "中文"]
DEGREES = ["PhD", "Bachelor", "Master"]
JOBS = ["Procurator Fiscal", "Welder", "Data Analyst", "Bäcker", "Stage \"Hand\"", "Bus Driver", "Vet", "Actuary"]
TITLES = ["Mr.", "Ms.", "Mx.", "Dr.", "PhD", "Miss"]
GENDERS = ["Male", "Female", "Fluid", "Other"]
BLOOD = ["A+", "A−", "B+", "B−", "AB+", "AB−", "O+", "O−"]
COUNTRIES = ["TZ", "DE", "FR", "PL", "JP", "BR", "US", "NZ"]
MAKES = ["Mazda", "Honda", "Dodge", "Citroën", "Škoda", "Bentley", "Nissan", "GMC", "Infiniti"]
MODELS = ["MX-5", "Accord Crosstour", "Intrepid", "C4", "Octavia", "Continental GTC", "Frontier", "Jimmy", "FX"]

TEXT = {"type": "string"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
INSTANT = {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"}
NULLABLE_INSTANT = {**INSTANT, "type": ["null", "string"]}


def record_of(**properties):
    return {"type": "object", "properties": properties}


SCHEMAS = {
    "users": record_of(
        id=INTEGER, created_at=INSTANT, updated_at=INSTANT, name=TEXT, title=TEXT, age=INTEGER, email=TEXT,
        telephone=TEXT, gender=TEXT, language=TEXT, academic_degree=TEXT, nationality=TEXT, occupation=TEXT,
        height=TEXT, blood_type=TEXT, weight=INTEGER,
        address=record_of(street_number=TEXT, street_name=TEXT, city=TEXT, state=TEXT, province=TEXT,
                          postal_code=TEXT, country_code=TEXT),
    ),
    "purchases": record_of(
        id=INTEGER, user_id=INTEGER, product_id=INTEGER, created_at=INSTANT, updated_at=INSTANT,
        added_to_cart_at=NULLABLE_INSTANT, purchased_at=NULLABLE_INSTANT, returned_at=NULLABLE_INSTANT,
    ),
    "products": record_of(
        id=INTEGER, make=TEXT, model=TEXT, year=INTEGER, price=NUMBER, created_at=INSTANT, updated_at=INSTANT,
    ),
}


class Draw:
    """Random values; instants as the faker source writes them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pick = self.random.choice
        day = datetime.date(2001, 1, 1)
        self.days = [(day + datetime.timedelta(days=n)).isoformat() for n in range(9000)]

    def below(self, limit):
        return int(self.random.random() * limit)

    def clock(self):
        n = self.below(86_400)
        return f"{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}"

    def instant(self):
        return f'"{self.pick(self.days)}T{self.clock()}+00:00"'

    def now(self, n):
        """When record `n` was read: the source updates everything as it goes."""
        n = 35_000 + n // 2_000 % 40_000
        return f'"2026-11-22T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}+00:00"'

    def precise(self):
        return f'"{self.pick(self.days)}T{self.clock()}.{self.below(1_000_000):06d}"'


def user(draw, n):
    pick, below = draw.pick, draw.below
    job = json.dumps(pick(JOBS), ensure_ascii=False)
    return [
        ("id", n), ("created_at", draw.instant()), ("updated_at", draw.now(n)), ("name", f'"{pick(GIVEN)}"'),
        ("title", f'"{pick(TITLES)}"'), ("age", 18 + below(70)),
        ("email", f'"{pick(GIVEN).lower()}{below(9999)}+{n}@example.org"'),
        ("telephone", f'"{below(1000):03d}-{below(1000):03d}-{below(10000):04d}"'), ("gender", f'"{pick(GENDERS)}"'),
        ("language", f'"{pick(LANGUAGES)}"'), ("academic_degree", f'"{pick(DEGREES)}"'),
        ("nationality", f'"{pick(LANGUAGES)}"'), ("occupation", job), ("height", f'"1.{50 + below(50)}"'),
        ("blood_type", f'"{pick(BLOOD)}"'), ("weight", 45 + below(60)),
        ("address", f'{{"street_number":"{below(1500)}","street_name":"{pick(STREETS)}","city":"{pick(CITIES)}",'
                    f'"state":"{pick(STATES)}","province":"{pick(STATES)}","postal_code":"{10000 + below(89999)}",'
                    f'"country_code":"{pick(COUNTRIES)}"}}'),
    ]


def purchase(draw, n):
    below = draw.below
    members = [
        ("id", n), ("product_id", below(100)), ("user_id", 1 + below(max(n, 1))), ("created_at", draw.precise()),
        ("updated_at", draw.now(n)), ("added_to_cart_at", draw.instant()),
    ]
    if below(3):
        members.append(("purchased_at", draw.instant()))
    members.append(("returned_at", "null" if below(4) else draw.instant()))
    return members


def product(draw, n):
    return [
        ("id", n), ("make", f'"{draw.pick(MAKES)}"'), ("model", f'"{draw.pick(MODELS)}"'),
        ("year", 1970 + draw.below(55)), ("price", f"{draw.below(90_000)}.{draw.below(100):02d}"),
        ("created_at", draw.instant()), ("updated_at", draw.now(n)),
    ]


MAKERS = {"users": user, "purchases": purchase, "products": product}


def stream(name, schema, **more):
    return {
        "stream": {"name": name, "json_schema": schema, "supported_sync_modes": ["full_refresh", "incremental"]},
        "sync_mode": "incremental", "cursor_field": ["updated_at"], "destination_sync_mode": "append", **more,
    }


def line(name, members):
    data = ",".join([f'"{key}":{value}' for key, value in members])
    emitted_at = EMITTED_AT + next(emitted) // PER_MILLISECOND
    return f'{{"type":"RECORD","record":{{"stream":"{name}","data":{{{data}}},"emitted_at":{emitted_at}}}}}\n'


def state(name, n):
    body = {"type": "STREAM", "stream": {"stream_descriptor": {"name": name}, "stream_state": {"cursor": n}}}
    return json.dumps({"type": "STATE", "state": body}) + "\n"


def faker(draw, shuffled=False):
    """The streams of source-faker: two users, two purchases and one product in turn, a state every 10,000 records."""
    counts = dict.fromkeys(SCHEMAS, 0)
    order = ["users", "purchases", "users", "purchases", "products"]
    while True:
        for name in order:
            counts[name] += 1
            members = MAKERS[name](draw, counts[name])
            if shuffled:
                draw.random.shuffle(members)
            yield line(name, members)
            if counts[name] % 10_000 == 0:
                yield state(name, counts[name])


def narrow(draw):
    n = 0
    while True:
        n += 1
        yield line("narrow", [("id", n)])


WIDE = 2000


def wide(draw):
    n = 0
    while True:
        n += 1
        yield line("wide", [(f"c{i}", draw.below(1_000_000) if i % 2 else f'"{draw.pick(CITIES)}"') for i in range(WIDE)])


def many(draw, streams=1000):
    counts = [0] * streams
    while True:
        for i in range(streams):
            counts[i] += 1
            yield line(f"s{i:04d}", user(draw, counts[i]))


def small(draw):
    for i in range(300):
        for n in range(100):
            yield line(f"s{i:04d}", user(draw, n))
        yield state(f"s{i:04d}", 100)


def partitions(draw):
    """50 streams of which each has 400 days; every partition gets two rows."""
    for i in range(50):
        for n in range(800):
            day = (datetime.date(2023, 1, 1) + datetime.timedelta(days=n % 400)).isoformat()
            members = [(key, f'"{day}T00:00:00Z"' if key == "updated_at" else value) for key, value in product(draw, n)]
            yield line(f"p{i:02d}", members)
        yield state(f"p{i:02d}", 800)


def huge(draw):
    n = 0
    while True:
        n += 1
        text = "".join(draw.random.choices("abcdefghij klmnopqrst", k=1000)) * 50_000
        yield line("huge", [("id", n), ("text", f'"{text}"')])


def catalogs():
    users = SCHEMAS["users"]
    everyone = [stream(name, schema) for name, schema in SCHEMAS.items()]
    columns = {f"c{i}": INTEGER if i % 2 else TEXT for i in range(WIDE)}
    return {
        "faker": everyone,
        "shuffled": everyone,
        "narrow": [stream("narrow", record_of(id=INTEGER))],
        "wide": [stream("wide", record_of(**columns))],
        "many": [stream(f"s{i:04d}", users) for i in range(1000)],
        "small": [stream(f"s{i:04d}", users) for i in range(300)],
        "partitions": [stream(f"p{i:02d}", SCHEMAS["products"]) for i in range(50)],
        "huge": [stream("huge", record_of(id=INTEGER, text=TEXT))],
    }


VARIANTS = {
    "faker": faker,
    "shuffled": lambda draw: faker(draw, shuffled=True),
    "narrow": narrow,
    "wide": wide,
    "many": many,
    "small": small,
    "partitions": partitions,
    "huge": huge,
}


def generate(variant, megabytes, seed, folder):
    """Writes the messages and the catalog of a variant. Returns the paths, and the numbers of bytes and of records."""
    os.makedirs(folder, exist_ok=True)
    messages, catalog = os.path.join(folder, "messages.jsonl"), os.path.join(folder, "catalog.json")
    with open(catalog, "w", encoding="utf-8") as file:
        json.dump({"streams": catalogs()[variant]}, file)
    written = records = 0
    with open(messages, "w", encoding="utf-8", buffering=1 << 20) as file:
        for text in VARIANTS[variant](Draw(seed)):
            file.write(text)
            written += len(text)
            records += text.startswith('{"type":"RECORD"')
            if written >= megabytes * MB:
                break
        names = {entry["stream"]["name"] for entry in catalogs()[variant]}
        file.writelines(state(name, 0) for name in sorted(names))
    return messages, catalog, os.path.getsize(messages), records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--mb", type=int, default=300, help="size in MB; `small` and `partitions` end by themselves")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    print(*generate(given.variant, given.mb, given.seed, given.out), sep="\n")
