"""What people write about: templates whose gaps are filled at random, by topic and by language.

A gap is written {name}; its fillings stand beside the templates of the topic or are common to all.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Fillings: TypeAlias = dict[str, tuple[str, ...]]
Topic: TypeAlias = tuple[tuple[str, ...], Fillings]

COMMON: Final[Fillings] = {
    "day": ("today", "this morning", "yesterday", "last night", "on Sunday", "this week", "just now"),
    "feeling": ("quietly happy", "a bit stubborn about it", "tired in a good way", "not sorry", "hopeful"),
    "person": (
        "my sister",
        "my neighbour",
        "a colleague",
        "my grandfather",
        "an old friend",
        "the kid next door",
    ),
    "number": ("two", "three", "five", "seven", "eleven", "about twenty"),
    "place": ("the old harbour", "the library", "platform four", "the market", "the park", "our street"),
    "close": (
        "",
        "",
        "",
        " Recommended.",
        " No regrets.",
        " That's it, that's the post.",
        " More tomorrow.",
        " ✨",
    ),
}

TOPICS: Final[dict[str, Topic]] = {
    "birds": (
        (
            "First {bird} of the year at {place} {day}.{close}",
            "{day_c} I stood still for ten minutes and was rewarded with a {bird}.",
            "Heard it before I saw it: a {bird}, right above {place}.",
            "{number_c} {birds} on one wire. Nobody asked for my count but here it is.",
            "The {bird} has opinions about my feeder and shares them loudly.",
            "Birding tip: bring coffee, lower expectations, look up. Today it gave me a {bird}.",
            "I keep a list, and {day} the list got a {bird}. I am {feeling}.",
            "Does anyone else give the local {birds} names? Asking for me.",
        ),
        {
            "bird": ("kingfisher", "goldfinch", "tawny owl", "swift", "grey heron", "wren", "black redstart"),
            "birds": ("starlings", "swallows", "jackdaws", "sparrows", "long-tailed tits"),
        },
    ),
    "baking": (
        (
            "The {bread} came out {result}.{close}",
            "Day {number} of feeding the starter. It is {result} and I am {feeling}.",
            "{person_c} asked for the {bread} recipe and I had to admit it is mostly waiting.",
            "Hot take: {bread} is better on the second day.",
            "Baked {number} loaves of {bread} {day}. Freezer full, heart full.",
            "Kitchen smells like {bread}. That is the whole news from here.",
            "I weighed everything this time and the {bread} still did what it wanted.",
            "Whoever invented {bread} deserves a statue at {place}.",
        ),
        {
            "bread": (
                "rye bread",
                "focaccia",
                "sourdough",
                "cardamom buns",
                "brioche",
                "flatbread",
                "shortbread",
            ),
            "result": ("flat but honest", "surprisingly tall", "just right", "a little burnt", "very alive"),
        },
    ),
    "code": (
        (
            "Spent the day removing {number} lines of {thing}. Everything still works. I don't trust it.",
            "The bug was in the {thing}. The bug is always in the {thing}.",
            "Wrote a test for the {thing} first and felt {feeling} for an hour.",
            "Unpopular opinion: {opinion}.",
            "{day_c} I explained {thing} to {person} and understood it for the first time.",
            "Nothing beats a {thing} that does one thing and then stops.",
            "Reading old code of mine. Past me cared a lot about the {thing}.",
            "Deleted the {thing}, made tea, restored the {thing}. Progress.",
            "TIL you can profile the {thing} without guessing. Years of guessing, gone.",
        ),
        {
            "thing": ("parser", "cache", "date handling", "retry loop", "config file", "queue", "migration"),
            "opinion": (
                "logs are a user interface",
                "most caches are apologies",
                "small files are a kindness",
                "the boring database is the fast one",
                "names are half of the design",
            ),
        },
    ),
    "books": (
        (
            "Finished {book} on the train and missed my stop.{close}",
            "{book} has the best first page I have read this year.",
            "Started {book} because {person} would not stop talking about it. They were right.",
            "Does anybody remember {book}? I think about its ending once a week.",
            "Library haul {day}: {number} novels, one atlas, no self-control.",
            "Reading {book} slowly, on purpose, two pages before sleep.",
            "Margins of my second-hand {book} are full of somebody's arguments. Best part.",
            "A book is a place to sit down. {day_c} it was {book}.",
        ),
        {
            "book": (
                "The Salt Road",
                "A History of Windows",
                "Letters to a Lighthouse",
                "The Quiet Cartographer",
                "Night Ferry",
                "Eleven Gardens",
                "The Weather Sellers",
                "An Atlas of Small Rivers",
            ),
        },
    ),
    "cycling": (
        (
            "{number_c} kilometres into the wind and {number} back with it. Fair.",
            "New chain, new day. The bike is silent and I am {feeling}.",
            "Drivers of the world: the lane next to {place} is not a parking space.",
            "Rain, then sun, then rain. Saw a rainbow from the bridge. {close}",
            "Commute {day}: overtaken by {person} on a cargo bike with a sofa.",
            "Best upgrade in years: {upgrade}.",
            "Rode to {place} without a plan. Came back with bread.",
        ),
        {
            "upgrade": (
                "mudguards",
                "a bell that sounds friendly",
                "wide tyres",
                "a dynamo light",
                "warm gloves",
            )
        },
    ),
    "trains": (
        (
            "Night train {day}: slept through {number} countries, woke up next to the sea.",
            "The {train} was on time and nobody knew what to do with the extra minutes.",
            "Somebody on the {train} is playing chess against {person} by phone, out loud.",
            "Ode to the dining car: soup, rain on the window, no signal.",
            "They should teach timetables in school. I mean it. {close}",
            "Platform change at {place}, the whole crowd moved like starlings.",
            "Window seat, left side, {train}. You're welcome.",
        ),
        {"train": ("06:12", "sleeper", "branch line", "last regional", "slow train along the coast")},
    ),
    "film": (
        (
            "Watched {film} {day} and the whole cinema forgot to breathe.",
            "{film} on a big screen is another film entirely.{close}",
            "The sound design of {film} deserves its own credits.",
            "{person_c} fell asleep during {film} and still summarised it better than me.",
            "There is one cut in {film} that I would put into a museum.",
            "Double feature at {place}: {film}, then {film2}. Home at two. Worth it.",
        ),
        {
            "film": (
                "Harbour Lights",
                "The Third Winter",
                "Paper Moths",
                "A Room in August",
                "Long Exposure",
            ),
            "film2": ("The Cartwright", "Blue Static", "Two Brothers, One Boat"),
        },
    ),
    "music": (
        (
            "Practised the same {piece} for an hour. The neighbours know it now.",
            "This {piece} has been in my head since {place}. Send help or a bassline.",
            "Live music {day} in a room for forty people. Everyone hummed the {piece} on the way out.",
            "Found {person}'s old tapes. There is a {piece} on one of them nobody remembers recording.",
            "Recorded rain on a tin roof. It's already better than my {piece}.",
            "Learning the {piece} by ear, which means wrongly but with feeling.",
        ),
        {"piece": ("waltz", "bass line", "slow movement", "chorus", "bridge in seven", "folk tune")},
    ),
    "garden": (
        (
            "The {plant} survived the winter out of spite.",
            "Planted {number} rows of {plants} {day}. Back hurts, heart doesn't.",
            "Slugs 4, {plants} 1. We continue.",
            "First {plant} of the season, eaten standing up.{close}",
            "{person_c} gave me seeds in an envelope that only says 'good ones'. I planted them.",
            "Turned the compost. It steamed. I'm {feeling}.",
            "Gardening is 10% planting and 90% looking at the {plants}.",
        ),
        {
            "plant": ("tomato", "fig tree", "rosemary", "strawberry", "artichoke"),
            "plants": ("beans", "radishes", "sunflowers", "leeks", "peas"),
        },
    ),
    "stars": (
        (
            "Clear sky {day}: {object} so sharp that I forgot the cold.",
            "Counted {number} meteors between clouds. {close}",
            "Showed {object} to {person}. Silence, then: 'that's real?'",
            "The telescope is small, the balcony is smaller, {object} doesn't mind.",
            "If you go outside now and look east, that bright one is {object}.",
            "Clouds again. I know {object} is up there. It knows I'm down here.",
        ),
        {
            "object": (
                "Saturn",
                "Jupiter and its moons",
                "the Pleiades",
                "the Orion nebula",
                "Vega",
                "the young moon",
            )
        },
    ),
    "football": (
        (
            "Lost {number} to one, and I'd still call it our best game.{close}",
            "Sunday league report: mud, hope, a goal by {person}.",
            "Our keeper saved two penalties {day} and then locked himself out of his car.",
            "Nobody has ever been offside in the mind of our striker.",
            "The pitch at {place} is 40% grass now. We're a big club.",
        ),
        {},
    ),
    "coffee": (
        (
            "New beans from {origin}: tastes like {taste}.{close}",
            "Changed the grind by one click. {day_c} coffee is {taste}. I contain multitudes.",
            "The café at {place} spells my name differently every time; I'm collecting them.",
            "Third cup. Inbox at zero. One of these is a lie.",
            "{person_c} drinks it with salt. I said I'd try. I did. {taste}.",
        ),
        {
            "origin": ("Huila", "Sidama", "Antigua", "Nyeri", "a paper bag without a label"),
            "taste": (
                "apricot",
                "burnt toast, in a nice way",
                "cocoa and rain",
                "blackcurrant",
                "nothing, somehow",
            ),
        },
    ),
    "maps": (
        (
            "Drew {place} from memory, then went there to be corrected.",
            "There is a street here named after a river that was moved in {year}.",
            "Old map from {year}, same bakery. Some things hold.{close}",
            "The shortest way isn't. {day_c} I took the {way} and found a staircase I never knew.",
            "Every map is an argument. Mine says the {way} matters.",
            "Contour lines are the closest thing to handwriting that hills have.",
        ),
        {
            "year": ("1893", "1911", "1936", "1958", "1974"),
            "way": ("canal path", "back lane", "footbridge", "ridge walk"),
        },
    ),
    "craft": (
        (
            "Finished the {item}. Only {number} mistakes, all of them decorative.",
            "Mended the {item} instead of buying one. {feeling_c}.",
            "Unpicked a whole evening of {item}. It was the right thing to do. Ouch.",
            "{person_c} wore the {item} I made ten years ago. Best review there is.",
            "Wool in that green arrived {day}. There will be a {item}.",
        ),
        {"item": ("scarf", "left sock", "tote bag", "jumper", "patchwork blanket", "wooden spoon")},
    ),
    "photo": (
        (
            "Light at {place} {day}.",
            "One frame, no crop. I waited {number} minutes for the last car to leave.",
            "The film came back. Half of it is my thumb, half of it is this.",
            "Went out for the sunset, stayed for what came after.",
            "Same spot every month. It's never the same spot.",
            "Walked until it looked like this.{close}",
        ),
        {},
    ),
    "pets": (
        (
            "The cat has decided that {seat} is mine and the desk is hers.",
            "The dog met {person} {day} and now we have to go there every time.",
            "{number_c} in the morning and the cat is explaining something important.",
            "Vet says he's perfect. He knows. {close}",
            "She brought me a sock. We don't own that sock.",
            "Adopted: one grey cat, answers to nothing, {feeling}.",
        ),
        {"seat": ("the chair", "the windowsill", "the warm laptop", "the whole sofa")},
    ),
}

TAGS: Final[dict[str, tuple[str, ...]]] = {
    "birds": ("birds", "birding"),
    "baking": ("baking", "sourdough"),
    "code": ("dev", "programming"),
    "books": ("books", "amreading"),
    "cycling": ("bikes", "cycling"),
    "trains": ("trains", "nighttrain"),
    "film": ("film", "cinema"),
    "music": ("music", "nowplaying"),
    "garden": ("gardening", "growyourown"),
    "stars": ("astronomy", "nightsky"),
    "football": ("football", "sundayleague"),
    "coffee": ("coffee",),
    "maps": ("maps", "cartography"),
    "craft": ("knitting", "mending"),
    "photo": ("photography", "landscape"),
    "pets": ("cats", "dogs"),
}

REPLIES: Final = (
    "This made my day.",
    "Where is that? I want to go.",
    "Same here, {day}.",
    "I'd read a whole thread about this.",
    "Okay but how did {person} react?",
    "Strong agree.",
    "Gently disagree, but I like how you put it.",
    "You always find the good ones.",
    "Wait, {number}?!",
    "Tell us more!",
    "Saving this for later.",
    "I tried that once. Once.",
    "My favourite part is the ending.",
    "That's exactly how it feels.",
    "Counterpoint: soup.",
    "I was there! Should have said hello.",
    "Can confirm, it's better on the second try.",
    "Asking the real questions.",
    "Sending this to {person}.",
    "Ha! Beautiful.",
    "You're not alone with this.",
    "Now I'm hungry.",
    "What did you use for that?",
    "Have you tried {place}? Less crowded.",
    "Adding it to the list, which is long.",
    "I laughed out loud in {place}, thanks.",
    "👏👏👏",
    "❤️",
    "Noted. Framed. On the wall.",
    "Is there a longer version of this story?",
    "Respectfully: yes.",
    "I have {number} follow-up questions.",
    "It gets easier. Or you get used to it. One of those.",
    "Thank you for posting this, really.",
    "Hm, I remember it differently, but yours is nicer.",
)
FOLLOW_UPS: Final = (
    "Update: it worked.",
    "Update: it did not work.",
    "Adding, because someone asked: {person} started it.",
    "Second thought on this, {day}: I stand by it.",
    "(Part two, because the first post got long.)",
    "And then, of course, it rained.",
    "Correction: it was {number}. I counted again.",
    "The best comment so far came from {person}, offline.",
    "One more thing and then I'm done.",
)
QUOTES: Final = (
    "This. All of this.",
    "I keep coming back to this one.",
    "Worth your time:",
    "Meanwhile, over here, the opposite.",
    "Somebody had to say it.",
    "Reading this at {place} and nodding.",
    "Best thing I saw {day}.",
    "A whole mood.",
    "Putting this where I'll find it again.",
    "Yes, and also:",
    "Frame it.",
)
LINKS: Final = (
    ("notes.example.org", "Notes on {thing}", "What I learned about {thing} in a year of doing it wrong."),
    (
        "slow.example.com",
        "In praise of {thing}",
        "An essay of medium length about {thing}, patience and rain.",
    ),
    (
        "weekly.example.net",
        "{thing_c}, explained twice",
        "Once for beginners, once for those who already know.",
    ),
    ("archive.example.org", "A short history of {thing}", "With pictures, maps and one scandal."),
    ("field.example.com", "How to start with {thing}", "You need less than you think. Here is the list."),
)
LINK_TEXTS: Final = (
    "Good read on {thing}:",
    "Wrote something about {thing}.",
    "If you only read one thing {day}:",
    "Found this in my bookmarks:",
    "Long, but worth it:",
    "For everyone who asked about {thing}:",
)
MENTIONS: Final = (
    "Thanks to {at} for the tip, {place} was lovely.",
    "{at} you were right and I have proof.",
    "Walk with {at} {day}. We solved nothing and it was great.",
    "Ask {at}, they know everything about this.",
    "Shout-out to {at}, who carried {number} boxes up the stairs.",
)
SUBJECTS: Final = {
    "birds": "garden birds",
    "baking": "slow bread",
    "code": "small programs",
    "books": "reading slowly",
    "cycling": "city bikes",
    "trains": "night trains",
    "film": "old cinemas",
    "music": "playing by ear",
    "garden": "balcony gardens",
    "stars": "dark skies",
    "football": "Sunday football",
    "coffee": "hand grinders",
    "maps": "hand-drawn maps",
    "craft": "visible mending",
    "photo": "natural light",
    "pets": "living with cats",
}

# Posts and replies.
LANGUAGES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "de": (
        (
            "Heute früh am Fluss: Nebel, zwei Reiher, sonst niemand.",
            "Der Zug war pünktlich. Ich nicht.",
            "Kuchen im Ofen, Regen am Fenster, Telefon aus.",
            "Wer hat eigentlich beschlossen, dass Montag schon morgens anfängt?",
            "Neues Buch angefangen, auf Seite zwölf schon verliebt.",
            "Die Katze hat den Schreibtisch übernommen. Ich arbeite jetzt daneben.",
            "Auf dem Markt gab es die ersten Kirschen. Mehr muss ich heute nicht erzählen.",
            "Straßenbahn voll, Laune trotzdem gut.",
        ),
        (
            "Sehr schön!",
            "Genau so ist es.",
            "Wo war das denn?",
            "Herrlich, danke dafür.",
            "Da wäre ich gern dabei gewesen.",
        ),
    ),
    "es": (
        (
            "Café, sol y ninguna prisa. Así empieza bien el día.",
            "Hoy el mar estaba tan quieto que daba pena entrar.",
            "Terminé la novela a las dos de la mañana y no me arrepiento.",
            "Mi vecina toca el piano a las siete. Cada día un poco mejor.",
            "La tortilla, con cebolla. No se discute.",
            "Caminé sin rumbo y acabé en una librería. Como siempre.",
            "¿Alguien más guarda billetes de tren antiguos?",
            "Llueve en la ciudad y de repente todo huele a pan.",
        ),
        (
            "¡Qué maravilla!",
            "Totalmente de acuerdo.",
            "¿Dónde es eso?",
            "Me lo apunto.",
            "Jajaja, igual me pasa a mí.",
        ),
    ),
    "pt": (
        (
            "O elétrico parou no meio da ponte e ninguém se queixou: a vista ajudava.",
            "Domingo de feira: figos, pão e conversa.",
            "Voltei a tocar guitarra. Os vizinhos ainda não sabem.",
            "Há dias em que o melhor plano é uma sopa.",
            "A luz de outubro devia ser património.",
            "Perdi o comboio e ganhei um café com uma amiga.",
        ),
        ("Que lindo!", "É mesmo isso.", "Também quero!", "Boa, obrigado pela dica."),
    ),
    "fr": (
        (
            "Premier marché du printemps : des radis, des tulipes, trop de fromage.",
            "J'ai réparé le vélo moi-même. Il grince, mais avec fierté.",
            "Il pleut sur les toits et le chat tient la météo.",
            "Relu ce roman dix ans après. C'est moi qui ai changé.",
            "Le train de nuit sentait le café et les départs.",
            "Petite victoire du jour : la tarte n'a pas brûlé.",
        ),
        ("Magnifique !", "Tellement vrai.", "C'est où ?", "Je note, merci !"),
    ),
    "ja": (
        (
            "朝の川沿いを歩いた。鷺が一羽、じっとしていた。",
            "今日のパンはよく膨らんだ。それだけで機嫌がいい。",
            "古本屋で十年探していた地図を見つけた。",
            "雨の日の図書館は、世界でいちばん静かな場所だと思う。",
            "猫が新しい椅子を占領した。返してもらえそうにない。",
            "夜行列車の窓から海が見えた瞬間が忘れられない。",
        ),
        ("いいですね!", "わかります。", "どこですか?", "素敵な写真。"),
    ),
}
