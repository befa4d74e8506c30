"""Words that say how another word is meant: negated, a limit, memory, disk, a question. Data."""

from collections.abc import Mapping

# Each list is searched with `text.find`; `*` stands for more letters.
CUES: Mapping[str, str] = {
    "room": "ram, memory, memoria, mémoire, arbeitsspeicher, speicher, hauptspeicher, vram, mem",
    "below": """
        at most, under, up to, max, maximum, maximal, limit, limited to, only, within, no more than,
        not more than, less than, below, cap, capped at, tops, como mucho, máximo, máxima, menos de,
        hasta, solo, no más de, límite, quepa en, tope, tope de, como máximo, au plus, au maximum,
        moins de, jusqu'à, seulement, pas plus de, tenir dans, tienne dans, tient dans, plafond,
        höchstens, unter, bis zu, nur, nicht mehr als, weniger als, begrenzt auf, grenze, davon,
        of which, de los cuales, de las cuales, de los que, dont, wovon, von denen, fit in,
        fit into, fits in, budget of, budget, fit a, fits a, budget is, with just""",
    "free": """
        free, available, left, spare, to spare, usable, can be used, may be used, can use, may use,
        may take, can take, max, maximum, tops, at most, or less, free for it, libre, libres,
        disponible, disponibles, sobran, quedan, utilizables, máximo, como mucho, como máximo,
        dispo, restent, reste, utilisable*, maxi, au plus, au maximum, au max, frei, freie, freien,
        freier, verfügbar, übrig, nutzbar, maximal, höchstens, davon frei""",
    "parts": """
        name*, date*, amount*, part*, parties, number*, field*, figure*, address*, nombre*, fecha*,
        importe*, dato*, partes, número*, cifra*, nom, noms, montant*, chiffre*, donnée*, parties,
        adresse*, namen, datum, daten, beträge, betrag, angaben, zahlen, medication*, drug*,
        medikament*, medicament*, médicament*, keyword*, entit*, clause*, klausel*, cláusula*""",
    "turn": """
        turn, turns, turning, convert, converts, put, render, bring, pasar, pase, poner, convertir,
        verter, mettre, passer, convertit, bringen, umwandeln, übertragen, überträgt""",
    "disk": """
        disk, disc, storage, ssd, hdd, download, downloads, sd card, flash, hard drive, drive,
        disco, almacenamiento, descarga, descargar, tarjeta sd, disque, stockage, téléchargement,
        télécharger, carte sd, festplatte, festplattenspeicher, speicherplatz, plattenplatz,
        herunterladen, sd karte, corpus, dataset, bandwidth, data plan, file, files, archivos,
        fichiers, dateien""",
    "asked": """
        question, questions, pregunta, preguntas, frage, fragen, *fragen, duda, dudas, query,
        queries, inquiries, enquiries, consulta, consultas""",
    "answered": """
        answer*, respond*, répond*, répons*, contest*, respuesta*, *antwort*, reply, replies,
        replying, resolv*, resuelv*, aclar*, klären""",
}

# A wish that follows one of these within two words is not wished for.
NEGATORS = (
    *("not", "no", "never", "without", "nor", "isn t", "don t", "doesn t", "pas", "sans", "ni"),
    *("sin", "nicht", "kein", "keine", "keinen", "keinem", "keiner", "ohne", "instead of", "nie"),
    *("rather than", "other than", "except", "en vez de", "en lugar de", "plutot que", "sauf"),
    *("au lieu de", "statt", "anstatt", "jamais", "nunca", "excepto", "ausser", "nada de"),
)

# Unless one of these stands between: 'no more than', 'not only', 'no exceder'.
CANCELS = frozenset(
    {
        *("but", "sino", "mais", "sondern", "more", "less", "only", "just", "mas", "menos", "solo"),
        *("plus", "moins", "seulement", "mehr", "weniger", "nur", "later", "longer", "problem"),
        *("matter", "over", "above", "exceed", "exceeding", "superar", "pasar", "depasser"),
        *("internet", "network", "conexion", "connexion", "reseau", "netz", "cloud", "nube"),
    }
)

# Right as they are, though a letter or two away from a word that is looked for.
COMMON = frozenset(
    {
        *("please", "should", "really", "little", "simple", "answer", "answers", "without"),
        *("between", "because", "before", "through", "present", "another", "nothing", "something"),
        *("someone", "people", "around", "always", "almost", "things", "working", "worked"),
        *("person", "necesito", "quiero", "modelo", "modelos", "tambien", "porque", "cuando"),
        *("nuestra", "nuestro", "nuestros", "nuestras", "tengo", "tener", "besoin", "modele"),
        *("modeles", "aussi", "notre", "votre", "lequel", "laquelle", "quelque", "quelques"),
        *("toujours", "petite", "petites", "brauche", "brauchen", "modell", "modelle", "unsere"),
        *("unserer", "unserem", "unseren", "meinen", "meiner", "meinem", "einfach", "bitte"),
        *("sollte", "mochte", "konnen", "lassen", "machen", "richtig", "wirklich", "immer"),
        *("andere", "anderen", "nachste", "running", "medium", "median", "spanning", "courses"),
        *("course", "patient", "patients", "patent", "patents", "portal", "server", "serve"),
        *("serves", "letter", "letters", "notice", "notices", "prices", "prizes", "worker"),
        *("workers", "farmed", "formed", "former", "banner", "banker", "rental", "mental"),
        *("central", "dental", "manage", "mensaje", "message", "messages", "member", "members"),
        *(
            "courrier",
            "courriers",
            "transcript",
            "transcripts",
            "clause",
            "clauses",
            "planes",
            "planet",
            "reports",
            "report",
            "import",
            "export",
        ),
    }
)

UNITS: Mapping[str, str] = {
    "units": """
        gigabyte, gigabytes, megabyte, megabytes, second, seconds, milliseconds, segundos, segundo,
        secondes, seconde, sekunde, sekunden, millisekunden, milisegundos, millisecondes,
        gigaoctets, megaoctets, memory, memoria, memoire, arbeitsspeicher""",
}
