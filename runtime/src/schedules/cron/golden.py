#!/usr/bin/env python3
"""Writes golden.txt: years of cron expressions in many zones, by another way than the code that is tested.

    python3 golden.py > golden.txt

Every minute of a year in UTC is translated to the wall clock, by zoneinfo, and the first one that leads to each time there is
kept. Then every minute on the wall clock is looked at, whether the expression names it: one that is left out is walked
forward, minute by minute, to the first that there is.
A line is: expression | zone | year | how many instants | SHA-256 of their Unix seconds, one a line.
"""

import hashlib
from datetime import datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

ZONES = [
    ("UTC", 2025), ("Europe/Berlin", 2025), ("America/New_York", 2025), ("Australia/Lord_Howe", 2025),
    ("Pacific/Chatham", 2025), ("Antarctica/Troll", 2024), ("Africa/Casablanca", 2025), ("Africa/Cairo", 2024),
    ("America/Santiago", 2024), ("America/Havana", 2024), ("America/Sao_Paulo", 2018), ("Asia/Beirut", 2022),
    ("Asia/Kathmandu", 2025), ("Asia/Tehran", 2021), ("Atlantic/Azores", 2024), ("America/St_Johns", 2024),
    ("Pacific/Apia", 2011), ("Asia/Pyongyang", 2018), ("Europe/Volgograd", 2018), ("America/Caracas", 2016),
]
EXPRESSIONS = [
    "* * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "0 0 * * *", "59 23 * * *", "15 1,2,3 * * mon-fri",
    "0 0-6/2 * * *", "0 12 1 * sun", "0 0 31 * *", "0 0 29 2 *", "5 4 * 8 *", "0 22 * * 1-5", "45 0 * mar,oct sun",
    "10,30 30 2 * * *", "*/20 59 1-3 * * 7", "0 0 1 1 *",
]
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()


def numbers(field, first, last, names=(), base=0):
    found = set()
    for part in field.split(","):
        part, _, step = part.partition("/")
        if part == "*":
            low, high = first, last
        else:
            ends = [str(names.index(e) + base) if e in names else e for e in part.split("-")]
            low, high = int(ends[0]), int(ends[-1])
        found |= set(range(low, high + 1, int(step or 1)))
    return found


@cache
def wall_clock(expression, year):
    return list(named(expression, year))


def named(expression, year):
    fields = expression.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    seconds, minutes, hours = (numbers(f, 0, top) for f, top in zip(fields, (59, 59, 23)))
    days, months = numbers(fields[3], 1, 31), numbers(fields[4], 1, 12, MONTHS, 1)
    weekdays = {day % 7 for day in numbers(fields[5], 0, 6, DAYS)}
    either = fields[3] != "*" and fields[5] != "*"
    at = datetime(year, 1, 1)
    while at.year == year:
        on_day, on_weekday = at.day in days, at.isoweekday() % 7 in weekdays
        day = (on_day or on_weekday) if either else (on_day and on_weekday)
        if not (at.month in months and day):
            at += timedelta(days=1)
            continue
        for minute in (at + timedelta(minutes=n) for n in range(24 * 60)):
            if minute.hour in hours and minute.minute in minutes:
                yield from (minute + timedelta(seconds=second) for second in sorted(seconds))
        at += timedelta(days=1)


def first_times(name, year):
    """Every minute that there is on the wall clock of a zone, and the first instant of each, minute by minute of the year."""
    zone, first = ZoneInfo(name), {}
    second = int(datetime(year, 1, 1, tzinfo=timezone.utc).timestamp()) - 2 * 86_400
    for at in range(second, second + 370 * 86_400, 60):
        first.setdefault(datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0), at)
    return first


def instant(at, first):
    minute = at.replace(second=0)
    if minute in first:
        return first[minute] + at.second
    while minute not in first:
        minute += timedelta(minutes=1)
    return first[minute]


for name, year in ZONES:
    first = first_times(name, year)
    # Every minute is much; of few zones it is enough.
    for expression in EXPRESSIONS[(name, year) not in ZONES[:4]:]:
        instants = sorted({instant(at, first) for at in wall_clock(expression, year)})
        digest = hashlib.sha256("\n".join(map(str, instants)).encode()).hexdigest()
        print(f"{expression} | {name} | {year} | {len(instants)} | {digest}")
