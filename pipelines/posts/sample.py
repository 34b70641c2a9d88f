"""The built-in sample, `sample://`: generated posts of a day, which follow from the date alone.

Everything in it is fictional; hosts are reserved names (RFC 2606). The bytes are the same on every platform and Python
version: chance is only `random.Random(str).random()`, whose algorithm is kept; arithmetic is only + - * /, which IEEE
754 fixes; sums are made one by one (`sum` of floats changed with Python 3.12). Whoever changes a table changes all
days.
"""

import bisect
import datetime
import functools
import itertools
import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

#: Posts of a day, Monday first, and the share of each hour (UTC), in any unit.
_BY_WEEKDAY = (1500, 1460, 1490, 1540, 1640, 1420, 1360)
_BY_HOUR = (22, 15, 10, 7, 7, 11, 22, 40, 56, 60, 58, 59, 66, 63, 58, 57, 60, 66, 74, 82, 86, 78, 58, 37)
#: A story is talked about this many days before and after its peak, and every few days the next one peaks.
_STORY_REACH, _STORY_EVERY = 6, 4
#: Weight of a story at its peak, times 0.6 to 1.4; of a story out of season. Usual topics weigh 20, 10, 6.7, … 2.
_STORY_WEIGHT, _STORY_REST = 18.0, 0.1
#: Lines from one spoiled post to the next, and from one post that is sent again to the next: at least, less than.
_SPOILED_EVERY, _REPEATED_EVERY = (35, 66), (70, 131)
#: Languages, and the running sums of their shares.
_LANGUAGES, _LANGUAGE_SUMS = ("en", "es", "de", "fr", "pt", "tr", "ja"), (62, 73, 81, 88, 94, 97, 100)

# Topics: name | things | what people do | how it is. A story comes and goes; a usual topic is always there.
_STORIES = """
the solar eclipse | eclipse glasses, totality, clear skies, pinhole projectors, shadow bands, telescopes, rooftops |
    watching the moon bite the sun, queueing for eclipse glasses | breathtaking, eerie, unforgettable
the train strike | replacement buses, picket lines, cancelled trains, platform crowds, commuters, unions, timetables |
    walking to work, waiting on platform nine, negotiating until midnight | frustrating, overdue, chaotic, peaceful
the football final | penalties, extra time, away fans, goalkeepers, scarves, red cards, stadium songs, offside lines |
    shouting at the referee, replaying the winning goal, painting faces blue | dramatic, scoreless, heroic, loud
the book fair | debut novels, poetry readings, signed copies, translators, publishers, paperbacks, comics, long queues |
    hunting for first editions, listening to debut authors, carrying too many books | crowded, charming, inspiring
the election debate | moderators, tax plans, fact checks, undecided voters, microphones, interruptions, polls |
    checking every claim, scoring both candidates, shouting at the television | heated, polite, evasive, lively
the heat wave | fans, ice cubes, shaded benches, night temperatures, melted asphalt, public pools, heat warnings |
    sleeping on the balcony, hiding in the library, watering wilted tomatoes | sticky, relentless, record, stifling
the city marathon | pacemakers, water stations, blisters, finish lines, cowbells, negative splits, foil blankets |
    cheering at kilometre thirty, running a personal best, tapering badly | gruelling, joyful, windy, emotional
the lantern festival | paper lanterns, drummers, food stalls, fireworks, dumplings, river boats, parades, costumes |
    folding paper lanterns, dancing behind the drummers, eating dumplings by the river | magical, glowing, noisy, packed
the AI chips shortage | accelerators, wafers, benchmarks, data centres, power bills, export rules, memory prices |
    waiting for accelerators, benchmarking old hardware, optimising every kernel | expensive, overhyped, absurd
the comet flyby | binoculars, dark skies, comet tails, star charts, tripods, long exposures, dawn alarms, meteor dust |
    setting alarms for dawn, tracking the comet tail, stacking long exposures | faint, dazzling, rare, ghostly
the chess championship | endgames, sacrifices, rook lifts, opening novelties, clocks, tiebreaks, blunders |
    analysing the endgame, guessing the next move, solving rook puzzles | tense, brilliant, drawn, nerdy
the storm warning | sandbags, gusts, flooded cellars, power cuts, fallen branches, sirens, ferries, candles, batteries |
    filling sandbags, checking on neighbours, charging every battery | wild, scary, exaggerated, soaking
the rocket launch | boosters, countdowns, scrubbed windows, orbit, payloads, fuel leaks, mission control, contrails |
    counting down together, streaming mission control, refreshing the launch window | flawless, delayed, thunderous
the song contest | key changes, sequins, jury votes, ballads, wind machines, glitter, televotes, nil points |
    voting for the ballad, ranking every costume, humming the winning song | camp, catchy, glittering, rigged
the museum heist | forged paintings, skylights, guards, alibis, missing pearls, detectives, ropes, insurance, rumours |
    inventing wild theories, following the detectives, sketching the skylight | bold, puzzling, cinematic, clumsy
the penguin hatching | penguin chicks, keepers, webcams, eggshells, fluff, naming votes, herring, nests, incubators |
    watching the penguin webcam, voting on names, sketching penguin chicks | adorable, fluffy, wobbly, tiny
"""
_USUAL = """
coffee brewing | espresso, grinders, light roast beans, moka pots, filters, milk foam, water temperature, pour overs |
    dialling in the grinder, tasting three roasts, descaling the kettle | smooth, bitter, fruity, strong
the weather | rain, sunshine, fog, umbrellas, wind, clouds, puddles, frost, rainbows, forecasts |
    waiting for sunshine, forgetting the umbrella, chasing rainbows | grey, mild, glorious, damp
bike lanes | helmets, potholes, cargo bikes, bollards, kerbs, school runs, parked vans, traffic lights, bells |
    dodging parked vans, counting cargo bikes, commuting by bike | safer, bumpy, protected, narrow
home cooking | garlic, noodles, lentils, leftovers, cast iron, chilli oil, soups, herbs, roasted carrots, rice |
    chopping garlic, simmering lentils, reheating leftovers | spicy, cosy, simple, burnt
remote work | meetings, headphones, calendars, muted microphones, deadlines, spreadsheets, time zones, slippers |
    muting the meeting, moving deadlines, blocking my calendar | quiet, productive, lonely, flexible
open source | maintainers, pull requests, unit tests, release notes, licences, compilers, flaky builds, documentation |
    reviewing pull requests, fixing flaky tests, bisecting a regression | stable, generous, undocumented, elegant
house plants | monsteras, cuttings, watering cans, ferns, aphids, terracotta pots, window sills, cacti, compost |
    repotting the ferns, propagating cuttings, fighting aphids | thirsty, thriving, leggy, green
cats | whiskers, cardboard boxes, zoomies, keyboards, naps, treats, hairballs, laser dots, paws |
    napping on the keyboard, knocking cups over, begging for treats | fluffy, smug, sleepy, demanding
bread baking | sourdough starters, rye flour, crusts, hydration, proofing baskets, crumb shots, yeast, bagels |
    feeding the starter, scoring the loaf, kneading at dawn | sour, crusty, dense, airy
trail running | mud, hills, headlamps, ankles, shortcuts, sunrise runs, energy gels, deer, switchbacks |
    climbing the hill twice, running before sunrise, scraping mud off shoes | steep, muddy, refreshing, lonely
"""
_TEMPLATES = (
    "{name}: {a} and {b}, {quality} as ever.",
    "All {time}: {act}. {a}, mostly.",
    "Anyone else {act} {when}?",
    "{a} or {b}? Asking for my {person}.",
    "{name} in {town}, {a} everywhere. So {quality}.",
    "My {person} and {name}, {when}: {a}, {c}, everything.",
    "{act} in {town} {when}. It was {quality}.",
    "{name}: {a} over {b}, always.",
    "With {name} it is {a} first, then {b}.",
    "After {act}: never without {a}.",
    "{quality} {a}, and then {b}! This is {name}.",
    "{town} and {name}: {a}, {b}, {c}.",
    "More {a} for {town}, please. This is {name}.",
)
_MARKUP = (
    "Why does <b>{name}</b> show up in bold for my {person}?",
    "{a} &amp; {b}: is it &lt;{quality}&gt; or is it just me?",
    "Table talk: </td></tr> {name} <i>{when}</i>, 3 < 5 && \"quoted\" 'twice'",
)
_COMMENTS = (
    "What a {adjective} {noun}.", "No {noun}, just a {adjective} {noun2}.", "The {noun} can wait.", "So {adjective}.",
    "A {adjective} {time}, really.", "Somebody bring {noun2} and {noun}.", "Best {noun} of the year.", "Worth it.",
    "My {noun} agrees, the {noun2} does not.", "From {noun} to {noun2}.", "I blame the {adjective} {noun}.",
)  # fmt: skip
_TIMES = "morning, evening, afternoon, weekend, lunch break, night, commute, holiday"
_WHEN = "today, again, this week, tonight, right now, after work, before breakfast, since Monday, all day, at last"
_PERSONS = "neighbour, sister, team, grandmother, flatmate, boss, uncle, dentist, barber, cousin, teacher, nephew"
_TOWNS = """Aldermouth, Brackenport, Corvale, Dunmarrow, Eastmere, Fenbridge, Glasswater, Hollowby, Ironbeck,
Juniperton, Kestrelford, Lindenholm, Mossgate, Norvale, Otterhaven, Pellmere, Quillham, Ravenmouth, Saltmarrow,
Thornquay, Umberfield, Vellamar, Westerlow, Yarrowdale"""
# The everyday words, the most usual first. Adjectives begin with a consonant: they stand behind "a".
_ADJECTIVES = """good, big, great, little, strange, perfect, new, beautiful, bad, long, happy, weird, funny, small,
quiet, real, sweet, wonderful, proper, busy, calm, bright, lucky, gentle, serious, curious, lovely, messy, modern,
hopeful, grumpy, secret, brave, distant, golden, honest, clumsy, cheap, clever, crisp, dizzy, familiar, fancy, fierce,
fragile, generous, grand, heavy, hidden, humble, jolly, keen, lazy, light, merry, mighty, modest, mysterious, nervous,
neat, noble, patient, plain, precious, proud, random, restless, rough, rusty, salty, shiny, silly, sincere, sleepless,
slippery, solid, spare, splendid, stubborn, sturdy, subtle, sudden, sunny, tender, timid, tired, tricky, vague,
velvet, vivid, wandering, weary, whimsical, wicked, wise, witty, wooden, zesty, bewildered, breezy, candid, dapper,
feral, lukewarm"""
_NOUNS = """day, time, world, idea, story, plan, people, thing, music, photo, question, friend, problem, place, dream,
street, window, kitchen, phone, city, garden, table, letter, corner, river, money, summer, winter, market, bakery,
balcony, ticket, lamp, camera, suitcase, notebook, piano, guitar, novel, movie, picture, ladder, mirror, button,
pocket, blanket, pillow, bottle, basket, bucket, candle, carpet, ceiling, cellar, chimney, circus, compass, cupboard,
curtain, diary, doorbell, drawer, elevator, engine, envelope, fence, flag, forest, fountain, fridge, hammer, harbour,
island, jacket, jigsaw, kettle, key, lighthouse, magnet, map, meadow, mountain, needle, orchard, paddle, parcel,
pebble, pencil, pigeon, postcard, puzzle, radio, raincoat, recipe, sandwich, scissors, shadow, shelf, sofa, spoon,
staircase, statue, stapler, teapot, thunder, toaster, tractor, trumpet, tunnel, umbrella, valley, violin, wallet,
wheelbarrow, whistle, yarn, accordion, anchor, apricot, bagpipe, banister, cinnamon, dandelion, gargoyle, hedgehog,
kaleidoscope, marmalade, walrus"""
_EMOJI = "😂, ❤️, 😍, 🔥, 🎉, 👍, 😭, 🙏, ☕, 🌞, 🚲, 🏃‍♀️, 📚, ⚽, 🌧️, 🐧, 🚀, 🌒, 🎶, 👩🏽‍🍳, 🐈, 🧩"
# Other languages: templates (by /), then topics: name | things | how it is.
_OTHER = {
    "es": """{name} en {town}: {a} y {b}. / Hoy {name}: {a}, {b} y {c}. / ¿Más {a} o más {b}? / Otra vez {name}… {a}
la receta de la abuela | lentejas, tortilla, aceite de oliva, pimientos, caldo, azafrán, croquetas | casero, lento
el partido del domingo | goles, árbitro, penaltis, afición, camisetas, banquillo, remontada | intenso, épico, raro
la huelga de metro | andenes, retrasos, autobuses, pancartas, sindicatos, atascos, paciencia | largo, difícil, gris
la feria del libro | novelas, poesía, firmas, casetas, cuentos, ilustradoras, bolsas | literario, alegre, corto""",
    "de": """{name} in {town}: {a} und {b}. / Heute {name}, {a} und {c}. / Erst {a}, dann {b}. / {name}, so {quality}!
Wochenmarkt | Äpfel, Käse, Brötchen, Spargel, Blumen, Honig, Kürbisse, Lastenräder | gemütlich, überfüllt, herrlich
Bahnstreik | Verspätung, Ersatzbusse, Gleiswechsel, Pendler, Durchsagen, Geduld, Fernzüge | nervig, berechtigt, endlos
Gartenarbeit | Tomaten, Gießkannen, Schnecken, Kompost, Hochbeete, Rosen, Maulwürfe | matschig, beruhigend, mühsam
Fußballabend | Elfmeter, Nachspielzeit, Torwart, Fanlieder, Bratwurst, Abseits, Jubel | spannend, torlos, laut""",
    "fr": """{name} à {town} : {a} et {b}. / Aujourd'hui, {name}, avec {a} et {c}. / {a} ou {b} ? / {name}… {quality}.
la boulangerie du coin | croissants, baguettes, levain, farine, chouquettes, tartes | croustillant, délicieux, fermé
la fête de la musique | guitares, fanfare, chorale, trottoirs, refrains, voisins | bruyant, magnifique, gratuit
la grève des trains | quais, retards, correspondances, voyageurs, guichets, annonces | pénible, prévu, interminable
le vélo en ville | pistes cyclables, casques, sonnettes, pluie, feux rouges, pavés | rapide, mouillé, joyeux""",
    "pt": """{name} em {town}: {a} e {b}. / Hoje {name}, com {a} e {c}. / Mais {a} ou mais {b}? / Não há {name} sem {a}.
café da manhã | pão de queijo, tapioca, manteiga, bolo de milho, goiabada, mamão, jornal | gostoso, demorado, simples
praia no domingo | guarda-sol, maré, protetor solar, água de coco, areia, ondas, futebol | quente, lotado, azul
final do campeonato | gols, torcida, prorrogação, bandeiras, juiz, goleiro, bateria | nervoso, histórico, tenso""",
    "tr": """{name}: {a} ve {b}. / Bugün {town} için {name}, biraz da {a}. / {a} mı, {b} mi? Çok {quality}.
çay saati | simit, demlik, ince belli bardak, peynir, reçel, balkon, sohbet, kurabiye | güzel, sıcak, huzurlu
İlkbahar yağmuru | şemsiye, ıslak sokaklar, gökkuşağı, çamur, bulutlar, vapur, martılar | serin, ani, gri
kitap fuarı | romanlar, şiir, imza günü, çizgi roman, yazarlar, kuyruk, yayınevi | kalabalık, keyifli, uzun""",
    "ja": """{name}、{a}、{b}。 / 今日は{name}！ {a} / {a} {b} {quality} / {name} {quality} {c}
花火大会 | 浴衣, 屋台, 夏祭り, 夜空, かき氷, 太鼓 | 最高, 楽しい, きれい
コーヒー | 豆, 喫茶店, 朝ごはん, ドリップ, 読書, 休日 | 美味しい, 苦い, 幸せ""",
}
_HANDLES = "quiet, amber, rusty, lunar, mossy, paper, cobalt", "heron, pixel, kettle, otter, walnut, comet, teapot"
_HOSTS = "news.example, example.com, www.example.org, blog.example, video.example, example.net, metro.example:443"
_TRACKING = "utm_source=feed&utm_medium=social", "utm_campaign=daily", "fbclid=IwSample0", "gclid=Cj0Sample"
_BROKEN_TIMES = ("T25:61:00Z", "not a time", "", "{year:04d}-02-30T12:00:00Z", "{year:04d}-13-01T08:30:00Z")
_WEEKDAYS, _MONTHS = "MonTueWedThuFriSatSun", "JanFebMarAprMayJunJulAugSepOctNovDec"


def lines(date: datetime.date) -> Iterator[bytes]:
    """Return the raw records of a UTC day: JSON lines without their ends, in about the order in which they came."""
    dice = _Dice(f"millrace-sample-{date.isoformat()}")
    arrived = sorted(_arrivals(date, dice), key=lambda arrival: arrival[0])
    return (line for _, line in arrived)


class _Dice:
    """Chance from a seed. Nothing but `random()` is asked of the standard library."""

    def __init__(self, seed: str) -> None:
        self.roll = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self.roll() < probability

    def between(self, low: int, high: int) -> int:
        """Return a number with low ≤ number < high."""
        return low + int(self.roll() * (high - low))

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.roll() * len(items))]

    def often(self, items: Sequence[T]) -> T:
        """Return one of the items by Zipf's law: the first are picked most."""
        return items[self.weighted(_zipf(len(items)))]

    def weighted(self, sums: Sequence[float]) -> int:
        """Return a position, given the running sums of the weights."""
        return bisect.bisect_right(sums, self.roll() * sums[-1], hi=len(sums) - 1)


@functools.cache
def _zipf(size: int) -> tuple[float, ...]:
    return tuple(itertools.accumulate(1 / (rank + 2) for rank in range(size)))


@dataclass(frozen=True)
class _Topic:
    name: str
    things: list[str]
    acts: list[str]
    qualities: list[str]

    @property
    def plain_name(self) -> str:
        return self.name.removeprefix("the ")


class _Post(NamedTuple):
    """time: seconds since the day's begin, below 0 or from 86,400 on in a neighbouring day."""

    id: int
    time: float
    user: str
    text: str
    urls: list[str]
    lang: str


def _words(table: str) -> list[str]:
    return [word.strip() for word in table.split(",")]


def _rows(table: str) -> list[str]:
    """Return the table's lines; a line that ends in | goes on in the next."""
    return table.strip().replace("|\n", "|").splitlines()


def _topic(line: str) -> _Topic:
    name, things, *acts, qualities = line.split("|")
    return _Topic(name.strip(), _words(things), _words(acts[0]) if acts else [], _words(qualities))


_STORY_TOPICS = [_topic(line) for line in _rows(_STORIES)]
_USUAL_TOPICS = [_topic(line) for line in _rows(_USUAL)]
_OTHER_TOPICS = {lang: [_topic(line) for line in table.splitlines()[1:]] for lang, table in _OTHER.items()}
_OTHER_TEMPLATES = {lang: [t.strip() for t in table.splitlines()[0].split(" / ")] for lang, table in _OTHER.items()}
_FILLERS = {"time": _words(_TIMES), "when": _words(_WHEN), "person": _words(_PERSONS), "adjective": _words(_ADJECTIVES)}
_FILLERS |= {"noun": _words(_NOUNS), "noun2": _words(_NOUNS)}
_TOWN_NAMES = _words(_TOWNS)
_USERS = [f"{a}_{b}{n}" for n in range(1, 10) for b in _words(_HANDLES[1]) for a in _words(_HANDLES[0])]
_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder each time
_EMOJI_LIST, _HOST_LIST = _words(_EMOJI), _words(_HOSTS)


@dataclass(frozen=True)
class _Talk:
    """What a day's posts are about: topic, the town where it happens ("": anywhere), running sums of the weights."""

    topics: Sequence[tuple[_Topic, str]]
    sums: Sequence[float]
    live: Sequence[_Topic]


def _talk(date: datetime.date) -> _Talk:
    """Return usual topics, stories out of season, and stories of the day, each with a town and size of its own."""
    weighted = [(20 / (rank + 1.0), topic, "") for rank, topic in enumerate(_USUAL_TOPICS)]
    weighted += [(_STORY_REST, topic, "") for topic in _STORY_TOPICS]
    live = []
    day = date.toordinal()
    for number in range((day - _STORY_REACH) // _STORY_EVERY, (day + _STORY_REACH) // _STORY_EVERY + 1):
        distance = (day - number * _STORY_EVERY) / _STORY_REACH
        if (bell := 1 - distance * distance) > 0:
            dice = _Dice(f"millrace-story-{number}")
            topic = _STORY_TOPICS[number * 7 % len(_STORY_TOPICS)]
            weighted.append((_STORY_WEIGHT * (0.6 + 0.8 * dice.roll()) * bell * bell, topic, dice.pick(_TOWN_NAMES)))
            live.append(topic)
    return _Talk([w[1:] for w in weighted], list(itertools.accumulate(w[0] for w in weighted)), live)


def _arrivals(date: datetime.date, dice: _Dice) -> Iterator[tuple[float, bytes]]:
    """Yield (when a line came, in seconds since the day's begin; the line)."""
    talk = _talk(date)
    markup = {dice.between(0, 600), dice.between(600, 1200)}
    times = _times(date, dice)
    spoiled, repeated = dice.between(*_SPOILED_EVERY), dice.between(*_REPEATED_EVERY)
    recent = deque[_Post](maxlen=61)
    for number, time in enumerate(times):
        post = _post(date.toordinal() * 1_000_000 + number, time, talk, recent, number in markup, dice)
        recent.append(post)
        came = max(time, 0.0) + dice.roll() * 20
        if number == spoiled:
            spoiled += dice.between(*_SPOILED_EVERY)
            yield came, _spoil(post, date, dice)
            continue
        write = _choose_shape(dice)
        yield came, write(post, date)
        if number >= repeated:
            repeated += dice.between(*_REPEATED_EVERY)
            again = post._replace(text=post.text + dice.pick((" (edited)", " EDIT: typo", " ✏️", "")))
            yield came + dice.between(30, 2400), write(again, date)


def _times(date: datetime.date, dice: _Dice) -> list[float]:
    """Return the times of the day's posts, in order, and of a few that belong to the days beside it."""
    hours = list(itertools.accumulate(_BY_HOUR))
    count = _BY_WEEKDAY[date.weekday()] + dice.between(-50, 51)
    times = [dice.weighted(hours) * 3600 + dice.between(0, 3_600_000) / 1000 for _ in range(count)]
    if date.toordinal() > 1:
        times += [-float(dice.between(1, 7200)) for _ in range(dice.between(3, 7))]
    if date < datetime.date.max:
        times += [86_400.0 + dice.between(0, 120) for _ in range(dice.between(1, 3))]
    return sorted(times)


def _post(id_: int, time: float, talk: _Talk, recent: Sequence[_Post], markup: bool, dice: _Dice) -> _Post:
    user = dice.often(_USERS)
    if recent and not markup and dice.chance(0.08):
        first = dice.often(recent)
        text = first.text if first.text.startswith("RT @") else f"RT @{first.user}: {first.text}"
        return first._replace(id=id_, time=time, user=user, text=text)
    lang = "en" if markup else _LANGUAGES[dice.weighted(_LANGUAGE_SUMS)]
    if lang == "en":
        topic, town = talk.topics[dice.weighted(talk.sums)]
        templates: Sequence[str] = _MARKUP if markup else _TEMPLATES
    else:
        topic, town, templates = dice.often(_OTHER_TOPICS[lang]), "", _OTHER_TEMPLATES[lang]
    text = _fill(dice.pick(templates), topic, town, dice)
    if lang == "en" and dice.chance(0.55):
        text += " " + _fill(dice.often(_COMMENTS), topic, town, dice)
    if dice.chance(0.12):
        text = f"@{dice.often(_USERS)} {text}"
    if dice.chance(0.22) and lang != "ja":
        about = topic if dice.chance(0.8) else dice.pick(talk.live)
        text += " #" + "".join(word[0].upper() + word[1:] for word in about.plain_name.split())
    if dice.chance(0.2):
        text += " " + dice.often(_EMOJI_LIST) * dice.pick((1, 1, 1, 2, 3))
    links = dice.weighted((65, 98, 100))
    return _Post(id_, time, user, text, [_url(topic, town, lang, dice) for _ in range(links)], lang)


def _fill(template: str, topic: _Topic, town: str, dice: _Dice) -> str:
    """Return the template with words in its fields; each sentence begins with a capital."""
    start = dice.between(1, len(topic.things))
    first = dice.often(topic.things)
    others = [thing for thing in topic.things[start:] + topic.things[:start] if thing != first]
    fields = {"name": topic.name, "a": first, "b": others[0], "c": others[1], "quality": dice.pick(topic.qualities)}
    fields["town"] = town if town and dice.chance(0.8) else dice.often(_TOWN_NAMES)
    fields["act"] = dice.often(topic.acts) if topic.acts else ""
    fields |= {name: dice.often(_FILLERS[name]) for name in _fillers(template)}
    sentences = template.format_map(fields).split(". ")
    return ". ".join(s if s.startswith("<") else s[0].upper() + s[1:] for s in sentences)


@functools.cache
def _fillers(template: str) -> Sequence[str]:
    """Return the fields of a template whose words are no topic's."""
    return [name for name in _FILLERS if "{" + name + "}" in template]


def _url(topic: _Topic, town: str, lang: str, dice: _Dice) -> str:
    """Return one of a topic's pages: the same page has many URLs, as people share it."""
    page = dice.often(range(12))
    host = _HOST_LIST[page % len(_HOST_LIST)]
    # Slugs are ASCII; other languages number their topics.
    slug = topic.plain_name.replace(" ", "-") if lang == "en" else f"{lang}/{_OTHER_TOPICS[lang].index(topic) + 1}"
    path = f"/{town or 'Stories'}/{slug.lower()}" + (f"-{page}" if page else "")
    query = ["id=" + str(page)] if page % 5 == 4 else []
    if dice.chance(0.2):
        query.append(dice.pick(_TRACKING))
    host = host.upper() if dice.chance(0.06) else host
    fragment = dice.pick(("#comments", "#top")) if dice.chance(0.08) else ""
    return f"https://{host}{path}{'?' + '&'.join(query) if query else ''}{fragment}"


def _choose_shape(dice: _Dice) -> Callable[[_Post, datetime.date], bytes]:
    """Return what writes a post: most posts are plain, a few per cent have other accepted forms."""
    return (_plain, _in_text, _id_as_text, _offset, _epoch, _twitter)[dice.weighted((84, 88, 91, 93, 95, 100))]


def _plain(post: _Post, date: datetime.date, **changes: Any) -> bytes:
    record = {"id": post.id, "user": post.user, "text": post.text, "created_at": _iso(post, date)}
    record |= {"urls": post.urls, "lang": post.lang} | changes
    return _json({k: v for k, v in record.items() if v is not None}).encode()


def _in_text(post: _Post, date: datetime.date) -> bytes:
    return _plain(post, date, text=" ".join((post.text, *post.urls)), urls=None)


def _id_as_text(post: _Post, date: datetime.date) -> bytes:
    return _plain(post, date, id=str(post.id))


def _offset(post: _Post, date: datetime.date) -> bytes:
    """Write a post with the clock of another zone, which may show another date, but for the calendar's ends."""
    hours = 2 if 43_200 <= post.time < 86_400 and date < datetime.date.max else 0
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    return _plain(post, date, created_at=_moment(post, date).astimezone(zone).isoformat())


def _epoch(post: _Post, date: datetime.date) -> bytes:
    """Write a post with seconds or milliseconds, whichever is nothing else at first sight.

    Milliseconds are at least 12 digits long, and 14 digits may be a time without separators.
    """
    seconds = (date.toordinal() - datetime.date(1970, 1, 1).toordinal()) * 86_400 + int(post.time // 1)
    only_milliseconds, only_seconds = abs(seconds) >= 10**11, abs(seconds) < 10**8
    milliseconds = only_milliseconds or (post.id % 2 == 0 and not only_seconds and seconds < 10**10)
    return _plain(post, date, created_at=seconds * 1000 if milliseconds else seconds)


def _twitter(post: _Post, date: datetime.date) -> bytes:
    """Write a post as Twitter's API v1.1 does: short links in the text, the real ones in the entities."""
    t = _moment(post, date)
    weekday, month = _WEEKDAYS[3 * t.weekday() :][:3], _MONTHS[3 * t.month - 3 :][:3]
    short = [f"https://t.example/{post.id:x}{n}" for n in range(len(post.urls))]
    urls = [{"url": s, "expanded_url": u, "indices": [0, len(s)]} for s, u in zip(short, post.urls, strict=True)]
    record = {
        "created_at": f"{weekday} {month} {t.day:02d} {t.hour:02d}:{t.minute:02d}:{t.second:02d} +0000 {t.year:04d}",
        "id": post.id,
        "id_str": str(post.id),
        "text": " ".join((post.text, *short)),
        "user": {"screen_name": post.user, "name": post.user.replace("_", " ").title()},
        "entities": {"hashtags": [], "urls": urls},
        "lang": post.lang,
    }
    return json.dumps(record).encode()


def _moment(post: _Post, date: datetime.date) -> datetime.datetime:
    return _clock(post, date).replace(tzinfo=datetime.UTC)


def _clock(post: _Post, date: datetime.date) -> datetime.datetime:
    """Return the time of a post in UTC, without a zone."""
    start = datetime.datetime(date.year, date.month, date.day)
    return start + datetime.timedelta(milliseconds=int(post.time * 1000 // 1))


def _iso(post: _Post, date: datetime.date) -> str:
    precision = "milliseconds" if post.id % 4 == 0 else "seconds"
    return _clock(post, date).isoformat(timespec=precision) + "Z"


def _spoil(post: _Post, date: datetime.date, dice: _Dice) -> bytes:
    """Return a line that can't be used, in one of the ways in which real ones can't."""
    line = _plain(post, date).decode()
    return dice.pick(
        (
            line[: len(line) // 4 + dice.between(0, len(line) // 2)].encode(),
            _plain(post, date, text="~~" + post.text).replace(b"~~", b"caf\xe9 \xff", 1),
            _plain(post, date, id=None),
            _plain(post, date, text=None),
            _plain(post, date, created_at=dice.pick(_BROKEN_TIMES).format(year=date.year)),
        )
    )
