"""Words for domains in English, Spanish, French and German: data alone.

A value's terms are separated by commas; `*` stands for more letters. What stands after `|` only
hints: people, workplaces and objects, which count where no plainer word names another domain.
"""

from collections.abc import Mapping

DOMAINS: Mapping[str, str] = {
    "medical": """
        medical*, medicine, medicines, medicinal, biomed*, clinical*, healthcare, health care,
        health, ehealth, diagnos*, pathology, médic*, medicina, clínico*, clínica*, salud,
        sanitari*, sanidad, biomédic*, médecine, santé, clinique, cliniques, soins,
        sanitaire*, medizin*, klinisch*, gesundheit*, ärztlich*, heilkunde, pharma, life
        sciences, *medizin, public health, wound*, ward round*, radiologist*, blood pressure,
        blood test*, vital signs, anamnes*, anamnèse*, *befund*, laborbefund*, laborwert*,
        pflegeheim*, operatoire*, post-operative*, postoperatori*, wundversorg*, herida*,
        plaie*, analíticas, prise de sang, medikation, epicris*, arztpraxen, arztbericht*,
        entlassbrief*, entlassungsbrief*, informe de alta, informes de alta, lettre de sortie,
        lettres de sortie, compte rendu médical, health advice, icu, intensive care,
        intensivstation*, uci, réanimation, cuidados intensivos, blood sugar, glucose,
        glucosa, glycémie, blutzucker*, rehab, rehabilit*, réadaptation, reha, physio,
        vaccination*, epidemi*, épidémi*, seuche*, operating theatre, arztgespräch*,
        sanitätsdienst, wellness, bienestar médico, ailment*, dolencia*, injur*, lesion*,
        verletz*, blessure*, vacun*, vaccine*, hygiene, hygiène, palliativ*, paliativ*,
        allerg*, tumor*, diagnosis, prognosis
        | doctor, doctors, doctor's, physician*, clinician*, nurse, nurses, nurse's, nursing,
        hospital*, clinic, clinics, patient, patients, patient's, ward, symptom*, discharge
        letter*, médico, médicos, doctora, doctores, enfermer*, paciente*, médecin*, docteur*,
        infirmi*, hôpital, hôpitaux, hopital*, klinik*, arzt, ärzte*, ärztin*, arztpraxis,
        arztbrief*, *arztbrief*, hausarzt*, arzt*, krankenhaus*, krankenschwester*, pfleger*,
        pflege*, patienten*, symptôme*, síntoma*, drug, drugs, disease*, illness*,
        enfermedad*, maladie*, krankheit*, triage, ambulance*, ambulancia*, rettungsdienst*,
        sanitäter*, befund*, spital*, historias clinicas, therap*, terap*, thérap*, malade*,
        care home*, caregiver*, carer*, cuidador*, soignant*, aide-soignant*, praxis, *praxis,
        heart rate, frecuencia cardíaca, visite médicale, sprechstunde*, consultorio*,
        ambulatori*, cabinet médical, blood, bloc opératoire, gp, gps, midwives, medic,
        medics, health worker*, krankenakte*, medikament*, médicament*, medicamento*,
        medication*, pill, pills, apotheke*, pharmacist*, farmacéutic*, pharmacien*,
        therapist*, psychologist*, psicólog*, psychologue*, psychologe*, physiotherapeut*,
        rettungswagen, icu nurse*, nurse practitioner*, emt, paramedic*, sanitario*,
        ambulancier*, heilpraktiker*, infirmerie, krankenpfleger*""",
    "law": """
        law, laws, legal*, juridic*, judicial, jurisprudence, jurisprudencia, derecho, ley,
        leyes, juridique*, droit, juríd*, juristisch*, recht, rechts*, jura, gesetz*, *recht,
        judiciaire*, légal, légale, légaux, légales, code civil, civil code, código civil,
        code pénal, penal code, código penal, bürgerliches gesetzbuch, legislation,
        législation, legislación, compliance, regulatory, litigation, derecho civil,
        agreement*, terms of service, terms and conditions, case law, case files, legal
        advice, acuerdo*, condiciones generales, conditions générales, agb, satzung*,
        paragraf*, rechtsprechung*, rechtsberatung*, sentencia*, jugement*, arrêts, urteile,
        procès, demanda judicial, pleitos, eviction*, desahucio*, expulsion locative,
        räumungsklage*, testament*, inheritance, herencia*, héritage*, erbrecht*, erbschaft*,
        demanda* judicial*, klageschrift*, assignation en justice, porter plainte,
        plainte pénale, plaintes pénales, dépôt de plainte,
        vollmacht*, poder notarial, procuration*, copyright law, arbitration, arbitraje,
        arbitrage, droit du travail, droit de la famille, droit de la consommation, derecho de
        familia, derecho de autor, small claims, claim form*, dispute*, litige*, litigio*,
        rechtsstreit*
        | lawyer*, attorney*, solicitor*, barrister*, paralegal*, court, courts, judge,
        judges, abogad*, bufete*, tribunal*, juez, jueces, avocat*, juge, juges, notaire*,
        notary, notaries, notari*, anwalt*, anwält*, *anwalt*, *anwält*, gericht, gerichts*,
        richter*, kanzlei*, *kanzlei, notar, urteil*, klage*, sentencias, statute*, juriste*,
        jurist, juristen, lawsuit*, law firm, legal aid, ngo law, mediator*, magistrat*,
        huissier*, gerichtsvollzieher*, procurador*, asesor legal, plaintiff*, defendant*,
        prozess, mandant*, mandanten, schöffe*, clerk, paralegals, legislat*, parliament,
        parlament*, ngo lawyer, ngo's lawyers, defensor*, defender*, clerk*, notariat""",
    "finance": """
        finance*, financial*, financier*, financière*, financièr*, fintech, banking,
        economic*, economics, finanz*, finanzas, financiero*, financiera*, económic*,
        economía, économi*, wirtschaft, wirtschafts*, betriebswirtschaft*, investment*,
        investing, inversión, inversiones, investissement*, *finanzen, bancari*, bancaire*,
        fiscal*, treasury, loan*, mortgage*, tax return*, kredit*, steuererklärung*, expense
        report*, expenses, gastos, notes de frais, spesen*, budgetplanung, stock prices,
        invoic*, annual report*, informes anuales, rapports annuels, geschäftsbericht*,
        quarterly report*, bilan comptable, transacti*, transaccion*, überweisung*, virement*,
        transferencias bancarias, iban, cash flow, tesorería, trésorerie, stocks, aktien,
        acciones, dividend*, steuerfrage*, finanzamt, treasurer, lohnabrechnung*, nóminas,
        fiche* de paie, payslip*, gehaltsabrechnung*, insur*, seguro de *, assurance*,
        versicherung*, wealth, patrimonio, patrimoine, vermögen*, anlageberat*, geldanlage*,
        market report*, inflation, banker*, risk report*, esg, controlling, hypotheken*
        | bank, banks, banco, bancos, banque, banques, banken, bank*, broker*, money, dinero,
        argent, geld, accountant*, contable*, comptable*, buchhalter*, invoice*, factura,
        facturas, facture*, rechnung, rechnungen, bourse, börse*, bolsa, stock market,
        earnings, analyst*, analista*, steuerberat*, economist*, economista*, credit union,
        payroll, nómina*, gestoría*, gestor*, cashier*, *bank, sparkasse*, caisse d'épargne,
        caja de ahorros, kontoauszüg*, extractos bancarios, relevés bancaires, bank
        statement*, receipts, recibos, quittungen, belege, tickets de caisse, fattur*,
        autónomo*, freelancer*, freiberufl*, indépendant*, sparer, shareholder*, accionista*,
        actionnaire*, aktionär*, loan officer*, teller, steuerberater*, kassenwart,
        trésorier*, tesorero*""",
    "education": """
        education*, educational, educativ*, educación, educacion, éducati*, enseignement*,
        pedagog*, pédagog*, pädagog*, bildung*, unterricht*, enseñanza, tutoring, e-learning,
        elearning, schooling, didactic*, didáctic*, didaktik, scolaire*, académic*, academic,
        academics, nachhilfe*, *unterricht, schulbildung, tutoría*, soutien scolaire, aide aux
        devoirs, homework help, berufsschul*, *schule, *schüler, *schülern, matura, abitur*,
        baccalauréat, bac, selectividad, oposiciones, bachillerato, exam preparation,
        prüfungsvorbereit*, collégien*, lycéen*, adult learning, formación, formation
        professionnelle, ausbildung*, weiterbildung*, vokabel*, *vokabeln, *vokabel,
        flashcard*, karteikarten, thesis, tesis, klausur*, grading essays, schulaufgabe*,
        aufsatz, *aufsatz*, *aufsätze, *aufsätzen, rédaction scolaire, dictées, exercices
        scolaires, übungsaufgabe*, lernhilfe*, study help, study buddy, revision notes,
        kindergarten*, guardería*, crèche, spracherwerb, clases de idiomas, cours de langue*,
        e learning, mooc, teaching material*, unterrichtsmaterial*, material didáctico,
        matériel pédagogique, learning app, lernapp*, exam questions, prüfungsfragen,
        preguntas de examen, sujets d'examen, study notes, apuntes, lecture notes, vorlesung*,
        cours magistral, universitar*
        | my daughter, my son, mi hija, mi hijo, ma fille, mon fils, meine tochter, mein sohn,
        studying, estudia, estudio, étudie, studiert, studiere,
        school*, teacher*, student*, pupil*, classroom*, homework, lesson*, exam, exams,
        university, universities, college*, kids learn*, escuela*, colegio*, profesor*,
        maestro*, maestra*, estudiante*, alumno*, alumna*, universidad*, deberes, examen*,
        clase de, clases, école*, ecole*, lycée*, lycee*, collège*, élève*, eleve*, étudiant*,
        etudiant*, enseignant*, professeur*, devoirs, cours, université*, instituteur*,
        institutrice*, schule*, schul*, lehrer*, schüler*, hausaufgabe*, universität*, uni,
        prüfung*, kita, kindergarten, tutor, tutors, curriculum, grundschul*, gymnasiast*,
        *lehrer, *lehrerin, classe de, classes de, lernende*, kids, children, niños, niñas,
        enfants, kinder, kindern, teenager*, adolescent*, jugendliche*, azubi*, apprenti*,
        essays, quiz, quizzes, learner*, trainees, docente*, pupils, instituto, profe, profes,
        prof, seminar*, workshop participants, campus, facultad, faculté, fakultät, aprendiz*,
        professor*, lecturer*, docent*, dozent*, scholar*, becario*""",
    "code": """
        coding, programming, software*, source code, code, codes, codebase*, developer tool*,
        programación, programacion, programar, código, codigo, programmation, programmier*,
        quellcode, softwareentwicklung, devops, informatique, informática, informatik,
        computer science, debug*, *code, logiciel*, entwickl* von software, web development,
        pull request*, unit test*, commit message*, regex, stack overflow, refactor*, kernel,
        python, javascript, typescript, java, rust, sql, html, c++, quelltext*, code source,
        código fuente, snippet*, unit-test*
        | developer*, programmer*, coder*, software engineer*, desarrollador*, programador*,
        développeur*, developpeur*, programmeur*, entwickler*, api, apis, git, repository,
        repo, repos, stack trace*, script, scripts, compiler, function*, bugs, bug, logs, log
        file*, ide, vscode, vs code""",
    "agriculture": """
        agricultur*, agricol*, agrícol*, agro*, farming, agronom*, agri, ackerbau, landwirt*,
        landwirtschaft*, agrar*, agricole*, campo y ganadería, horticultur*, agritech, ranch*,
        huerto*, huerta*, potager*, acker, äcker, tierhaltung, viehhaltung, weinbau*,
        imkerei*, vineyard*, beekeep*, livestock, riego, irrigation, milk yield*, semillas,
        semences, saatgut, seed, seeds, fertiliz*, fertilis*, dünger, abono*, engrais, olivo*,
        olivar*, maisanbau, *anbau, anbau, sembr*, siembra, semis, aussaat, riegos, winzer*,
        vigneron*, viticultor*, apicult*, imker*, jardinage, jardinería, gardening, garden
        advice, animal husbandry, greenhouses, gewächshaus*, invernaderos, pesticid*,
        herbicid*, fumigar, cosechas, récoltes, silage, silaje, ensilage, pâturage*, pasto,
        pastos, weide*, pasture*
        | farm, farms, farmer*, granja*, granjero*, agricultor*, agriculteur*, agricultrice*,
        ferme, fermes, fermier*, bauer, bauern*, bäuer*, bauernhof*, hof, crop, crops,
        cultivo*, cosecha*, récolte*, recolte*, ernte*, harvest*, tractor*, traktor*,
        tracteur*, campesin*, ganader*, paysan*, exploitation agricole, cattle, livestock,
        ganado, bétail, vieh, *vieh, greenhouse*, invernadero*, serre, serres, gewächshaus*,
        finca*, schaf, schafe, schafen, sheep, goat*, ziegen*, hühner*, poules, gallinas,
        vines, cow, cows, kühe, kühen, pig, pigs, schweine*, plantation*, plantación*,
        beehive*, hive, hives, ruche*, colmena*, bienenstock*, silo, silos, stall, tomato*,
        tomaten, tomates, plants, plantas, plantes, pflanzen*, garden*, jardín*, jardin*,
        garten*, gärtner*, barn, barns, establo*, étable*, scheune*, tractors, drought,
        sequía, sécheresse, dürre, farmhand*, jornalero*, ouvrier agricole, landarbeiter*,
        rancher*, agronomist*, agrónomo*, agronome*""",
    "sports": """
        sport, sports, sporting, deporte*, deportiv*, sportif*, sportive*, sportlich*,
        athletic*, atletismo, athlétisme, leichtathletik, sport*, sportverein*, turnverein*,
        fußballverein*, *sport, football club*, club de fútbol, club de foot,
        sportnachrichten, sportjournalis*, *liga, bundesliga, premier league, champions
        league, training plan*, plan* de entrenamiento, plans d'entraînement, trainingspl*,
        chess, ajedrez, échecs, schach, tennis, handball, basketball, rugby, cricket,
        baseball, marathon*, swimming, schwimmen, natación, natation, ciclismo, cyclisme,
        radsport, fitness, gimnasio, workout*, spielbericht*, crónica* deportiva*, compte
        rendu de match, comptes rendus de matchs, match report*, race report*
        | athlete*, coach, coaches, trainer, atleta*, entrenador*, entraîneur*, athlète*,
        sportler*, team tactics, league, liga, ligue, *verein, stadium, olympi*, olímpic*,
        referee*, árbitro*, arbitre*, schiedsrichter*, tournament*, torneo*, tournoi*,
        turnier*, player*, jugador*, joueur*, spieler*, mannschaft*, equipo de fútbol, team
        captain""",
    "news": """
        news, journalism*, journalistic, press, newspaper*, noticia*, periodis*, periodíst*,
        prensa, actualité*, presse, journalis*, nachrichten*, zeitung*, nachrichtenartikel,
        headlines, newsroom*, medienhaus, press release*, nota de prensa, notas de prensa,
        communiqué*, pressemitteilung*, reportage*, editorial*, breaking news, presse
        économique, prensa económica, wirtschaftspresse, zeitungsartikel*, columnist*, podcast
        show notes, local paper, periódico*, quotidien régional, tageszeitung*, revue de
        presse, pressespiegel
        | reporter*, journalist*, periodista*, journaliste*, redaktion*, rédaction de presse,
        redacción periodística, headline*, titular*, artículos, articles de journal,
        newsreader""",
    "science": """
        science, sciences, scientific*, ciencia*, científic*, cientific*, scientifique*,
        wissenschaft*, naturwissenschaft*, research papers, *forschung, physics research,
        astronom*, geology, quantum, quantique, cuántic*, materials science, climate science,
        peer review*, preprint*
        | scientist*, researcher*, research, investigador*, chercheur*, forscher*, forschung*,
        arxiv, laboratory, laboratorio*, laboratoire*, labor, lab, labs, academic paper*,
        investigación, experiment*, microscop*, postdoc*, phd, doctorado, thèse, doktorarbeit,
        dissertation*""",
    "support": """
        customer support, customer service*, customer care, helpdesk, help desk, support
        tickets, support ticket*, tech support, technical support, it support, call center,
        call centre, contact center, after sales, atención al cliente, atencion al cliente,
        servicio al cliente, soporte técnico, soporte tecnico, service client, support client,
        service après-vente, sav, relation client, assistance clients, centre d'appels*,
        kundendienst*, kundenservice*, kundensupport*, kundenbetreuung*, kundenanfrage*,
        technischer support, reklamation*, customer complaint*, customer email*, customer
        messages, customer inquir*, customer quer*, quejas de clientes, reclamaciones de
        clientes, réclamations clients, réclamations de nos clients, kundenmails,
        kunden-e-mails, kundenbeschwerden, emails von kunden, e-mails von kunden, mails von
        kunden, mails de clients, hotline*, postventa, after-sales, call center*, call-centre,
        callcenter*, avis clients, kundenbewertung*, kundenfeedback, customer feedback,
        customer review*, comentarios de clientes, opiniones de clientes, customer chat*,
        support chat, support emails, support desk, helpdesk*, mesa de ayuda, servicio
        técnico, guichet, hotline, first level support, second level support, service center
        | customer*, cliente*, client*, kunden*, kunde, ticket*, complaint*, queja*,
        réclamation*, reclamation*, beschwerde*, contact form*, service desk, complainant*""",
    "retail": """
        retail*, e-commerce, ecommerce, online shop*, online store*, comercio electrónico,
        comercio, commerce, vente en ligne, einzelhandel*, onlinehandel, handel, tienda
        online, boutique en ligne, onlineshop*, webshop*, produktbeschreibung*, product
        description*, product review*, online-shop*, fiches produit*, fichas de producto*,
        descripciones de producto*, reseñas de producto*, avis produits, produktbewertung*,
        catalogue*, catálogo*, produkttext*, produktseite*, product page*, product text*
        | shop, shops, shopkeeper*, tienda*, vendedor*, boutique*, magasin*, vendeur*, laden,
        verkäufer*, merchant*, supermarket*, supermercado*, supermarché*, supermarkt*,
        shopping, tendero*, épicerie*, *laden, checkout, bakery, panadería, boulangerie*,
        bäckerei*""",
    "travel": """
        travel*, tourism*, turismo, turístic*, turistic*, tourisme, touristique*, tourismus,
        touristik, hospitality, hotellerie, hostelería, hôtellerie, reise*, viajes,
        sightseeing, itinerar*, itinéraire*, reiseplan*, reiseführer*, guía turístic*, hotel
        review*, reseñas de hoteles, avis d'hôtels, hotelbewertung*, hiker*, hiking, randonn*,
        wanderer, wandern, wanderweg*, senderis*, excursion*, camping, museum*, musée*,
        museo*, stadtführ*, audioguide*, audio guide*
        | hotel*, hôtel*, tourist*, turista*, touriste*, trip, trips, viaje, viaje*, voyage*,
        reisen, guide touristique, tour guide*, flight*, airline*, vuelos, urlaub*, airport*,
        booking*, reserva*, réservation*, buchung*, guest*, huésped*, hôte""",
    "cooking": """
        cooking, culinary, culinari*, cuisine, cuisiner, gastronom*, recipe*, receta*,
        recette*, rezept, rezepte*, rezepten, kochen, kochrezept*, cocina, culinaire*,
        kulinarisch*
        | chef, chefs, cook, cooks, restaurant*, restaurante*, kitchen*, cocinero*,
        cuisinier*, koch, küche*, food, comida, essen""",
    "engineering": """
        engineering, ingeniería, ingenieria, ingénierie, ingenierie, ingenieurwesen,
        maschinenbau*, mechanical, manufacturing, industrial, industrie, industri*,
        fabricación, fabrication industrielle, fertigung*, produktionstechnik, construction,
        construcción, bauwesen, bau, maintenance, mantenimiento, wartung*, aerospace,
        automotive, robotics, robótica, robotique, robotik, elektrotechnik, technical manual*,
        manuales técnicos, notices techniques, technical documentation, documentación técnica,
        documentation technique, technische dokumentation*, montageanleitung*
        | engineer*, ingenier*, ingénieur*, ingenieur*, factory, factories, fábrica*,
        fabrica*, usine*, fabrik*, plant floor, mechanic*, mecánico*, mécanicien*,
        mechaniker*, technician*, técnico*, technicien*, techniker*, werkstatt*, taller*,
        atelier*""",
    "government": """
        government*, public administration, public sector, civic, gobierno*, administración
        pública, administracion publica, sector público, gouvernement*, administration
        publique, secteur public, regierung*, verwaltung*, öffentliche verwaltung, behörde*,
        politics, political, política*, politique*, politik*, politisch*, bürgeramt*,
        bürgerbüro*, *amt, town council, public services, servicios públicos, services
        publics, öffentlicher dienst, ciudadanía, formularios oficiales, formulaires
        administratifs, amtlich*
        | town hall, city hall, council, municipal*, ayuntamiento*, alcaldía, mairie*,
        rathaus, gemeinde*, citizen*, ciudadan*, citoyen*, bürger*, embassy, ministry,
        ministerio*, ministère*, ministerium*""",
    "energy": """
        energy, energía, energia, énergie, energie*, electricity grid, power grid, solar,
        photovoltaic*, wind power, renewable*, renovables, renouvelable*, erneuerbare*,
        stromnetz*, utilities""",
    "environment": """
        environment*, climate, ecolog*, ecológic*, medio ambiente, medioambient*, clima,
        climat*, environnement*, écolog*, umwelt*, klima*, ökolog*, naturschutz*,
        sustainability, sostenibilidad, wildlife, biodivers*""",
    "marketing": """
        marketing, advertis*, publicidad, publicité, publicitaire*, werbung, werbe*, social
        media, redes sociales, réseaux sociaux, soziale medien, seo, copywriting, newsletter*,
        branding, captions, légendes, instagram, tiktok, linkedin, slogan*, campaign*,
        campañ*, campagne*, kampagne*, brand""",
    "hr": """
        human resources, hr, recruiting, recruitment, recruit*, recursos humanos, rrhh,
        selección de personal, ressources humaines, rh, recrutement, personalwesen,
        personalabteilung, bewerbung*, lebensläufe, lebenslauf*, cv, cvs, résumés of
        candidates, job applications, hiring""",
    "logistics": """
        logistic*, logístic*, logistique*, logistik*, supply chain, shipping, freight,
        transport, transports, transporte, transportation, cadena de suministro, chaîne
        d'approvisionnement, lieferkette*, spedition*, warehouse*, almacén, entrepôt*, lager,
        lagerhaltung, delivery drivers, trucking, parcel*, paquete*, colis, paket*, shipment*,
        envío*, expédition*, sendung*, tracking number*, delivery note*, albarán, albaranes,
        bon de livraison, bons de livraison, lieferschein*, courier*, mensajería, coursier*,
        kurier*, fleet""",
    "real-estate": """
        real estate, property listings, inmobiliari*, immobilier*, immobilière*, immobilien*,
        makler*, realtor*, bienes raíces, bienes raices, housing""",
    "religion": """
        religio*, religió*, religieu*, theolog*, teolog*, théolog*, bible, biblia, koran,
        quran, church, iglesia, église, kirche*, bibel*""",
    "literature": """
        literature, literatura, littérature, litteraire*, littéraire*, literatur*,
        literarisch*, poetry, poesía, poésie, gedichte, poems, poemas, poèmes, fiction,
        novels, novelas, romans, romane, storytelling, novel, novel's, novelist*, manuscript*,
        manuscrito*, manuscrit*, manuskript*, novela, roman, romanautor*, kurzgeschichte*,
        short stor*, cuentos, contes, nouvelles littéraires, screenplay*, guion, scénario,
        drehbuch*
        | writers, escritor*, écrivain*, schriftsteller*""",
    "music": """
        music, musical, música, musica, musique, musik*, musikalisch*, song lyrics, letras de
        canciones, paroles de chansons, songtexte*""",
    "gaming": """
        gaming, video game*, videogame*, videojuego*, jeux vidéo, jeu vidéo, videospiel*,
        computerspiel*, npc dialogue, game design""",
    "history": """
        | history, historical, historia, históric*, histoire, historique*, geschichte,
        historisch*, archive*, archivo*, archiv, archäolog*, archaeolog*""",
    "security": """
        cybersecurity, cyber security, cyber-security, ciberseguridad, cybersécurité, cyber
        sécurité, cybersicherheit, it security, it-sicherheit, infosec, malware, seguridad
        informática, sécurité informatique, phishing""",
    "veterinary": """
        veterinar*, vétérinaire*, tierarzt*, tiermedizin*, tierärzt*, vet, vets, animal
        health, salud animal, santé animale, veterinaria""",
    "general": """
        | general purpose, general-purpose, generalist*, general, everyday, any topic, any
        subject, any domain, no particular domain, no specific domain, propósito general,
        proposito general, uso general, generalista, cualquier tema, généraliste*, usage
        général, tout sujet, n'importe quel sujet, allgemein*, allzweck*, jedes thema,
        beliebige themen, alltag, alltags*, quotidien, cotidian*, all-purpose, general
        knowledge, cultura general, culture générale, allgemeinwissen""",
    "-": """
        budget, hospital grade, memory bank, food for thought, bank of, doctor up, driver,
        rechtschreib*, right now, rechts oben, clean bill of health, in court of, medium,
        press enter, press a button, lawn, healthy amount""",
}
