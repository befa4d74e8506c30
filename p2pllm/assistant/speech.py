"""What the assistant says in English, Spanish, French and German."""

from collections.abc import Mapping

from p2pllm.assistant import text

TONGUES = ("en", "es", "fr", "de")

QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "language": {
        "en": "In which language should it read and write?",
        "es": "¿En qué idioma debe leer y escribir?",
        "fr": "Dans quelle langue doit-il lire et écrire ?",
        "de": "In welcher Sprache soll es lesen und schreiben?",
    },
    "domain": {
        "en": (
            "For which field: medical, law, finance, education, code, agriculture, sports … "
            "or general?"
        ),
        "es": (
            "¿Para qué campo: medicina, derecho, finanzas, educación, código, agricultura, "
            "deportes … o general?"
        ),
        "fr": (
            "Pour quel domaine : santé, droit, finance, éducation, code, agriculture, sport …"
            " ou général ?"
        ),
        "de": (
            "Für welches Gebiet: Medizin, Recht, Finanzen, Bildung, Code, Landwirtschaft, "
            "Sport … oder allgemein?"
        ),
    },
    "task": {
        "en": (
            "What should it do: summarise, classify, translate, extract, answer questions, "
            "write, chat?"
        ),
        "es": (
            "¿Qué debe hacer: resumir, clasificar, traducir, extraer, responder preguntas, "
            "redactar, conversar?"
        ),
        "fr": (
            "Que doit-il faire : résumer, classer, traduire, extraire, répondre aux "
            "questions, rédiger, dialoguer ?"
        ),
        "de": (
            "Was soll es tun: zusammenfassen, einordnen, übersetzen, Angaben auslesen, Fragen"
            " beantworten, schreiben, plaudern?"
        ),
    },
    "memory_bytes": {
        "en": "How much memory may it take there, such as 2 GB?",
        "es": "¿Cuánta memoria puede ocupar allí, por ejemplo 2 GB?",
        "fr": "Combien de mémoire peut-il y prendre, par exemple 2 Go ?",
        "de": "Wie viel Arbeitsspeicher darf es dort belegen, etwa 2 GB?",
    },
    "platform": {
        "en": "On which device: phone, tablet, laptop, desktop, Raspberry Pi, server …?",
        "es": (
            "¿En qué dispositivo: teléfono, tableta, portátil, ordenador, Raspberry Pi, servidor …?"
        ),
        "fr": (
            "Sur quel appareil : téléphone, tablette, ordinateur portable, PC, Raspberry Pi, "
            "serveur … ?"
        ),
        "de": "Auf welchem Gerät: Handy, Tablet, Laptop, PC, Raspberry Pi, Server …?",
    },
    "latency_ms": {
        "en": "How long may you wait for the first word, such as half a second? (any)",
        "es": "¿Cuánto se puede esperar la primera palabra, por ejemplo medio segundo? (da igual)",
        "fr": "Combien de temps pour le premier mot, par exemple une demi-seconde ? (indifférent)",
        "de": "Wie lange darf das erste Wort dauern, etwa eine halbe Sekunde? (egal)",
    },
}

LINES: Mapping[str, Mapping[str, str]] = {
    "pick": {
        "en": "I would take {ref}.",
        "es": "Yo tomaría {ref}.",
        "fr": "Je prendrais {ref}.",
        "de": "Ich nähme {ref}.",
    },
    "none": {
        "en": "No model that I know of fits.",
        "es": "No conozco ningún modelo que sirva.",
        "fr": "Je ne connais aucun modèle qui convienne.",
        "de": "Ich kenne kein Modell, das passt.",
    },
    "understood": {
        "en": "I understood:",
        "es": "He entendido:",
        "fr": "J'ai compris :",
        "de": "Verstanden habe ich:",
    },
    "helps": {
        "en": "It would help to allow",
        "es": "Ayudaría permitir",
        "fr": "Il aiderait d'accepter",
        "de": "Es hülfe,",
    },
}

_USUAL: Mapping[str, str] = {
    "en": "the i a an for with on my need that in of and to should it we our is me want your at",
    "es": "el los las un una para con en mi que de y necesito quiero por nuestro debe se del al su",
    "fr": (
        "le les un une pour avec sur mon ma que dans et je il faut du des notre nous doit"
        " au avec qui"
    ),
    "de": (
        "der die das ein eine fur mit auf mein ich brauche und soll es wir unser im den dem zum von"
    ),
}


def tongue(said: str) -> str:
    """Which of the four languages words are written in, by their small words; English if unsure."""
    words = text.plain(said).replace(",", " ").replace(".", " ").split()
    counts = {name: sum(word in usual.split() for word in words) for name, usual in _USUAL.items()}
    return max(TONGUES, key=lambda name: counts[name])
