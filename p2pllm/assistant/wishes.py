"""Words for tasks and licences in English, Spanish, French and German: data as in `domains`."""

from collections.abc import Mapping

TASKS: Mapping[str, str] = {
    "summarise": """
        summari*, summary, summaries, sum up, sums up, summing up, summed up, condens*,
        shorten*, digest, digests, tl;dr, tldr, abstracts of, boil down, boils down, key
        points, gist, brief overview*, recap*, resum*, resúm*, síntesis, sintetiz*, condensar,
        puntos clave, acortar, extractar, sinopsis, résum*, resume*, synthès*, synthét*,
        condenser, abréger, points clés, compte rendu court, comptes rendus courts,
        zusammenfass*, zusammenzufassen, zusammengefasst*, fasst * zusammen, fasse * zusammen,
        kurzfassung*, kürzen, verdicht*, *zusammenfassung, *zusammenfassungen, überblick über,
        stichpunkte, abbreviat*, outline, outlines, overview, in a nutshell, takeaways,
        highlights of, make * shorter, cut down, short version*, tl dr, abstract of,
        compendi*, abrevi*, lo esencial, en pocas palabras, en pocas líneas, versión corta,
        acort*, l'essentiel, en quelques lignes, en bref, abrège*, version courte, raccourc*,
        fasst ** zusammen, fasse ** zusammen, fassen ** zusammen, kurz fassen, kurz zu fassen,
        das wesentliche, auf den punkt, kurzversion*, kurze fassung, in wenigen sätzen, knapp
        wiederg*, zusammenfasst, boil* down, trim* down, distil*, abridg*, whittle* down,
        bullet points, bulletpoints, in two sentences, in three sentences, in one paragraph,
        short form, summing, gist of, resumid*, condensad*, en dos frases, en tres frases, en
        una frase, viñetas, esquema*, extracto, extractos, condensé*, en deux phrases, en
        trois phrases, fiche de lecture, in zwei sätzen, in drei sätzen, gekürzt*,
        komprimier*, straff*, eindampf*, abriss, inhaltsangabe*, protokollzusammenfassung*""",
    "classify": """
        classif*, categori*, label*, tagging, tag my, tag our, tag the, tag each, tag
        incoming, sorting, sort my, sort our, sort the, sort incoming, sorts, sentiment*, spam
        detection, detect spam, detect*, triage, triaging, prioriti*, route tickets, routing,
        flag, flagging, screen for, intent recognition, moderate, moderation, tell * from,
        tell apart, distinguish*, filter*, clasific*, etiquet*, categoriz*, catalogar, ordenar
        por, análisis de sentimiento*, priorizar, distinguir, triaje, separar por, moderar,
        filtr*, classer, classe les, classement, classe des, classification*, catégoris*,
        étiquet*, trier, trie, tri des, tri de, analyse de sentiment*, prioriser, distinguer,
        modérer, modération, détect*, klassifi*, einordn*, einzuordnen, einteil*, einstuf*,
        einzustufen, kategorisier*, sortier*, sentimentanalyse*, stimmungsanalyse*, erkennen
        von spam, spamerkennung, priorisier*, verschlagwort*, unterscheid*, zuordn*,
        zuzuordnen, filtern, moderier*, to sort, and sort, sort customer*, sort emails, sort
        mail*, sort messages, sort them, sorted, sorts the, rank, ranks, ranking, grading,
        group into, groups, bucket, decide whether, decides whether, tell whether, tells
        whether, tell if, check whether, spam, clasifi*, agrup*, decidir si, decir si, saber
        si, distinga*, distingue*, reconozc*, regroup*, déterminer si, dire si, savoir si,
        ranger, ordnet ** ein, ordnen ** ein, ordnet ** zu, teilt ** ein, gruppier*, bewert*,
        einschätz*, markier*, spamfilter*, catalog*, sortieren, tell * whether, tell * if,
        positive or negative, positive and negative, positivos y negativos, positivo o
        negativo, positif ou négatif, positifs ou négatifs, positiv oder negativ, topics
        assigned, assign* topic*, assign* categor*, by topic, by urgency, by priority, por
        urgencia, por prioridad, por tema, par urgence, par priorité, par thème, par sujet,
        nach dringlichkeit, nach thema, nach priorität, einordnet, einsortier*,
        einzusortieren, aussortier*, vorsortier*, triagier*, urgent or not, spam or not,
        veracity, fake news detection, assess, assesses, assessing, evaluate whether, judge
        whether, mark as, marks as, urgent from, good or bad, which category, what kind of,
        what type of, into categories, into classes, predict, predicts, valorar si, valora si,
        en categorías, qué tipo de, evaluar si, predecir, catégorie, en catégories, de quel
        type, évaluer si, prédire, in kategorien, welche art, welcher art, vorhersag*,
        beurteil*, prüft ob, prüfen ob""",
    "translate": """
        translat*, traduc*, traduz*, traduir*, tradui*, traduct*, übersetz*, *übersetzung,
        *übersetzungen, *übersetzen, dolmetsch*, localisation, localization, localise our,
        localize our, translation, interpret from, put * into english, render into, pasar al
        español, pasar al inglés, pasar al francés, verter al, mettre en anglais, passer en
        anglais, ins deutsche bring*, ins englische bring*, english version, versión inglesa,
        version anglaise, vertaal, interpreter, intérprete*, interprète*, bilingual,
        bilingüe*, bilingue*, zweisprachig*""",
    "extract": """
        extract*, pull out, pulls out, pulling out, information extraction, entity
        recognition, named entit*, ner, find the names, find names, find dates, pick out,
        picks out, picking out, parse, parsing, parses, key fields, fields from, structured
        data, scrape, mine the, collect the dates, identify the dates, extraer, extrae,
        extraer*, extraig*, extracción*, sacar los, sacar las, sacar datos, saque datos, saca,
        sacar, obtener los datos, entidades, recoger datos de, localizar los datos, datos
        estructurados, extraire, extrait, extraie, extraction*, extrayant, entités nommées,
        récupér*, relever les, repérage des, tirer les, données structurées, extrahier*,
        herauslesen, herauszulesen, auslesen, auszulesen, herausfiltern, herauszufiltern,
        herauszieh*, herauszuziehen, heraussuch*, herauszusuchen, entitäten*,
        eigennamenerkennung, datenextraktion, *extraktion, entnehm*, heraushol*, spot the
        names, spots the parties, pull the, pulls the, pull all, get the dates, gather the,
        gathers, list all, lists all, find all, finds all, saque, saquen, saca los, listar,
        lister, dégager, isoler, zieht ** heraus, ziehen ** heraus, liest ** aus, lies ** aus,
        sucht ** heraus, sammelt ** ein, herausziehen, herauszieht, auflist*, datenpunkte,
        metadata, structured fields, aus ** ziehen, ausles*, auszuziehen, rausziehen,
        raussuchen, herausschreib*, exzerp*, einsammeln, pick the, fish out, dig out,
        recopil*, recabar, recueillir, sortir les, sort les données, scan for, scans for,
        retrieve the, capture the, captures the, table of, into a table, into json, als
        tabelle, en una tabla, dans un tableau, en json, sacarle, capturar, capture les,
        saisir les, erfassen, erfasst, entnehmen, entnimmt, rausholen, rausfiltern""",
    "qa": """
        question answering, question-answering, answer* question*, answer* * question*,
        respond to question*, reply to question*, q&a, q and a, qa, faq, faqs, look up
        answers, looks up, query documents, ask questions about, knowledge base, responder
        preguntas, respond* * preguntas, responder a preguntas, respond* preguntas, contestar
        preguntas, contest* preguntas, contest* * preguntas, conteste a, resolver dudas,
        resuelv* dudas, resolver las dudas, preguntas y respuestas, preguntas frecuentes,
        consultas sobre, répond* aux questions, répond* à * questions, répond* * questions,
        réponses aux questions, questions-réponses, questions réponses, système de questions,
        foire aux questions, poser des questions, fragen beantwort*, frage * beantwort*,
        fragen * beantwort*, fragen zu * beantwort*, beantwort*, fragenbeantwortung*,
        frage-antwort*, fragen und antworten, antworten auf fragen, auf fragen antwort*,
        auskunft*, auskünfte, handles questions, handle questions, handle queries, answer
        queries, answers queries, information desk, look things up, nachschlag*, ask about,
        asks about, preguntar sobre, preguntar por, demander, q&as, helpdesk answers, answers
        from, renseigne*, renseignement*, informieren über, auskünften, wissensfragen,
        quizfragen, trivia, quiz me
        | answering, answer, answers, responda, responder, contestar, répondre, réponde,
        répond, antworten, antwortet, replies, reply""",
    "write": """
        write, writes, writing, draft*, compos*, generate text, text generation, generat*,
        create text*, author*, produce report*, producing report*, prepare report*, invent*,
        storytelling, redact*, redacción, redaccion, escrib*, generar, genere, genera,
        generación, componer, elabor*, borrador*, rédig*, rédact*, ecrire, écri*, génére*,
        générat*, composer, composition, brouillon*, rédaction, schreib*, geschrieben*, zu
        schreiben, verfass*, formulier*, erstell*, generier*, entwerf*, texterstellung,
        aufsetz*, entwürf*, entwurf, produce, produces, make me, come up with, crear, cree
        textos, crea textos, créer, crée, erzeug*, texten, ausformulier*, quiz, quizzes,
        cuestionarios, redige*, write up, protokollieren, caption*, légende*, headlines for,
        slogans, emails schreiben, ausfüllen, fill in forms, fill out, rellenar, remplir,
        compose, wording for, ghostwrit*, blog posts, newsletter texts, redactor, redactora,
        rédacteur, texter, textgenerator, inventar, inventer, erfinden, ausdenken, dichte*,
        storys""",
    "rewrite": """
        rewrit*, rephras*, paraphras*, correct*, proofread*, proof-read*, grammar*, spell
        check*, spellcheck*, simplif*, plain language, polish my, polish our, polishing, edit
        texts, reword*, improve the wording, improve my writing, fix typos, editing,
        reescrib*, reformul*, correg*, corrij*, corrección, correccion, gramátic*, ortográf*,
        ortograf*, parafrase*, lenguaje sencillo, lectura fácil, simplific*, réécri*, corrig*,
        correction*, correcteur*, grammaire, orthograph*, simplifi*, langage simple,
        relecture, relire, umschreib*, umzuschreiben, umformulier*, umzuformulieren, korrig*,
        korrektur*, grammatik*, rechtschreib*, vereinfach*, einfache sprache, leichte sprache,
        lektorier*, überarbeit*, textkorrektur*, edit my, edit our, edits, fix * grammar, fix
        my, fixes grammar, fix spelling, improve my, improve the style, tidy up, clean up my,
        mejorar el estilo, mejorar la redacción, mejora la redacción, pulir, améliorer le
        style, améliorer mes textes, facile à lire, falc, verbesser*, glätten, schreibt ** um,
        rechtschreibung, correcciones, ortografía, fautes, reword, plain english, lenguaje
        llano, français facile, einfaches deutsch, tippfehler, typos, stilistisch,
        rechtschreibfehler*, korrekturles*, redigier*, faute*, relis, corrige, revise my,
        revisar mis textos, improve * wording, spelling mistakes, grammar mistakes, mistakes
        in, language check, style check, make * sound, sound more, more formal, less formal,
        easier to read, easy language, easy-read, jargon free, without jargon, más formal, más
        sencillo, sin jerga, plus formel, plus simple, sans jargon, in verständlich*,
        sprachlich, stil verbessern, ortografia, erreurs de français, corrector, correctrice,
        corrector de estilo""",
    "complete": """
        autocomplet*, auto-complet*, auto complet*, code completion, completion, completions,
        complete code, complete my code, completing, finish sentences, next word prediction,
        predictive text, suggest code, completar, complet* código, complete código,
        completado, autocompletado, texto predictivo, complétion, autocomplétion, compléter,
        complèt*, saisie prédictive, vervollständig*, autovervollständig*,
        codevervollständigung, autovervollständigung, code-vervollständigung, ergänz*,
        textvorhersage""",
    "chat": """
        chat, chats, chatting, chatbot*, chat bot*, chat-bot*, convers*, dialog*, talk to,
        talk with, talking to, speak with, chatty, companion, charl*, chatear, conversar,
        diálog*, hablar con, platicar, discut*, discussion*, bavard*, dialogu*, parler avec,
        agent conversationnel, converser, causer, tchat, gespräch*, unterhalt*, plauder*,
        chatten, sprechen mit, reden mit, chatt*, small talk, smalltalk, conversational, role
        play, roleplay, sparring partner, plática, papoter, quatschen, unterhaltung*,
        konversation*, redet, to talk, talks with, speak to, talk about, hablar de, parler de,
        reden über, sprechen über, para hablar, bot de charla, gesprächspartner*, plauderbot*,
        sprachassistent*, converse, conversa, dialogue avec, dialogar, keep * company,
        gesellschaft leisten, sparring, discussion partner, to chat, tertulia, bavarder,
        blabla, schnack*, klönen, dialogsystem*, dialogpartner*, interactive, interactivo,
        interactif, interaktiv
        | assistant*, bot, bots, asistente*, assistent*, assistente*, assistant virtuel,
        tutor, tutors, tutoring, tuteur, nachhilfe, nachhilfelehrer, coach, explain*, explic*,
        expliqu*, erklär*, advice, advise*, aconsej*, conseil*, beraten, berat*, help me with,
        *beratung, beratung*, orienta*, recommend*, tips, consejos, conseils, tipps, hinweise,
        ratschl*, guidance, walk * through, explain, talks, coaching, bot de, ratgeber*,
        coach*, mentor*, guide, guía, begleiter*, helfer, helper, ayudante, aide, advisor*,
        adviser*, asesor*, conseiller*, berater*""",
    "transcribe": """
        dictation, dictado, dictée*, diktat*, diktier*, speech to text, transkri*,
        transcribe*, transcribing, transcription, transcriptions, transcribir, transcripción,
        transcrire, verschriftlich*, speech recognition, reconocimiento de voz, reconnaissance
        vocale, spracherkennung, voice notes to text, subtitles, subtítulos, sous-titres,
        untertitel""",
    "search": """
        search*, retriev*, find documents, find relevant, semantic search, look for documents,
        buscar, búsqueda, busque, recuperar documentos, recherch*, chercher, suche*,
        durchsuch*, suchmaschine*, embeddings, embedding, document search, recherche
        documentaire, búsqueda documental, dokumentensuche, find similar, rag, indexing,
        indexar, indexer, look through""",
    "-": """
        sort of, some sort, kind of, what i write, i write, we write, they write, i type, lo
        que escribo, escribo, escribimos, lo que escriba, j'écris, ce que j'écris, nous
        écrivons, ich schreibe, wir schreiben, answer in, answers in, answer within, extra,
        respond in, to write to me, wer schreibt, written in, escrito en, escritos en, écrit
        en, écrits en, geschrieben in, auf deutsch geschriebene, tutor's notes, teacher's
        notes, i search for a, i'm searching for, we are searching for, in search of, je recherche,
        nous recherchons, on recherche, recherche un, recherche une, à la recherche d'un, à la
        recherche d'une, ich suche, suche ich, wir suchen, suchen wir, suche ein, suche eine,
        suche einen, suche etwas, suchen ein, suchen eine, suchen einen, suchen etwas, auf der
        suche nach""",
    "identify": """
        identif*, recogni*, spot, spots, spotting, reconoc*, reconna*, repér*, repere*,
        rileva*, bestimm* von, erkenn*, diagnos* from, find out which, finds out, find the,
        find any, trouver les, trouver des, trouve les, encontrar, encuentre, encuentra,
        localizar, localice, detecte las, suchen nach, heraussuchen""",
}

LICENCES: Mapping[str, str] = {
    "Apache-2.0": """
        apache-2.0, apache 2.0, apache 2, apache2, apache license, apache licence, apache,
        apache-lizenz, licence apache, licencia apache, asl2""",
    "MIT": """
        mit license, mit licence, mit-lizenz, licence mit, licencia mit, mit licensed,
        mit-licensed, mit-lizenziert*, under mit, lizenz mit, sous mit, bajo mit, only mit,
        mit only, bajo la mit, sous licence mit""",
    "GPL-3.0": "gpl-3.0, gplv3, gpl v3, gpl 3, gpl3, gpl, gnu gpl, gnu general public license",
    "GPL-2.0": "gpl-2.0, gplv2, gpl v2, gpl 2",
    "AGPL-3.0": "agpl*, agpl-3.0, agplv3, affero",
    "LGPL-3.0": "lgpl*, lgpl-3.0",
    "BSD-3-Clause": """
        bsd-3-clause, bsd 3-clause, bsd 3 clause, bsd-3, bsd, bsd license, bsd licence,
        bsd-lizenz, three-clause bsd""",
    "BSD-2-Clause": "bsd-2-clause, bsd 2-clause, bsd-2",
    "MPL-2.0": "mpl-2.0, mpl 2.0, mpl, mozilla public license, mozilla",
    "CC-BY-4.0": """
        cc-by-4.0, cc by 4.0, cc-by 4.0, cc-by, cc by, ccby, creative commons attribution,
        creative commons, creative-commons*""",
    "CC-BY-SA-4.0": """
        cc-by-sa-4.0, cc by-sa 4.0, cc-by-sa 4.0, cc by sa 4.0, cc-by-sa, cc by-sa, cc by sa,
        share-alike, sharealike""",
    "CC-BY-NC-4.0": """
        cc-by-nc-4.0, cc by-nc 4.0, cc-by-nc 4.0, cc by nc 4.0, cc-by-nc, cc by-nc, cc by nc,
        non-commercial, noncommercial, non commercial, no comercial, non commerciale,
        nichtkommerziell*, nicht-kommerziell*, nicht kommerziell*""",
    "CC0-1.0": "cc0-1.0, cc0, public domain, dominio público, domaine public, gemeinfrei*",
    "permissive": """
        permissive*, permisiv*, permissiv*, commercial use, commercially, for commercial use,
        uso comercial, usage commercial, kommerziell*, kommerzielle nutzung, business use,
        commercial licence, licencia comercial, licence commerciale, kommerziell nutzbar,
        geschäftlich nutzbar""",
    "open-source": """
        open source, open-source, opensource, código abierto, codigo abierto, software libre,
        licencia libre, licencia abierta, licence libre, licence ouverte, logiciel libre,
        source ouverte, freie lizenz, offene lizenz, quelloffen*, open license, open licence,
        free licence, free license, freie software, openly licensed, modèle libre, modelo
        libre, modelo abierto, modèle ouvert, freies modell, offenes modell, free model, outil
        libre, herramienta libre, open weights, open model, openweights, pesos abiertos, poids
        ouverts, offene gewichte""",
}
