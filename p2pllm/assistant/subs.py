"""Words for sub-domains, by domain, in four languages: data as in `domains`."""

from collections.abc import Mapping

SUBS: Mapping[str, Mapping[str, str]] = {
    "medical": {
        "cardiology": """
            cardiol*, cardiac*, cardio, cardiovascular*, heart, heart health, heart disease,
            cardíac*, cardiaque*, corazón, cœur, coeur, kardiolog*, herz, herzen, herzkrank*,
            herzpatient*, herzmedizin, herzinfarkt*, herz-kreislauf*, herzgesundheit,
            herzklinik*, cardiopat*, infarct*, infarto*, ekg, ecg, arrhythmia*, herzfrequenz*,
            herzrhythm*, heart rate, frecuencia cardíaca, fréquence cardiaque, herzgesund*,
            herzschrittmacher*, pacemaker*, blood pressure, hipertens*, hypertens*,
            bluthochdruck, síntomas cardíacos""",
        "virology": """
            virolog*, virus, viruses, viral, virale, virales, viren, virológ*, covid*, hiv,
            vih, influenza, flu, grippe, gripe""",
        "oncology": """
            oncolog*, oncológ*, cancer*, cáncer*, tumor*, tumour*, tumeur*, onkolog*, krebs*,
            *krebs, chemo*, quimio*, leukemia, leucemia""",
        "pediatrics": """
            pediatr*, paediatr*, pediátr*, pédiatr*, pädiatr*, kinderheilkunde, kinderarzt*,
            kinderärzt*, kindermedizin, neonat*, child health""",
        "radiology": """
            radiolog*, radiológ*, x-ray*, x ray*, xray*, röntgen*, imaging report*, mri, mris,
            ct scan*, radiograf*, radiograph*, irm, imagerie""",
        "dermatology": """
            dermatolog*, dermatológ*, skin, piel, peau, hautarzt*, hautärzt*, hautkrankheit*,
            hautklinik*, eczema""",
        "neurology": """
            neurolog*, neurológ*, brain, cerebro, cerveau, gehirn*, stroke, strokes, ictus,
            avc, schlaganfall*, epilep*, alzheimer*, parkinson*, dement*, demenz*""",
        "endocrinology": """
            endocrin*, endokrin*, diabet*, diabét*, diabèt*, insulin*, thyroid, tiroides,
            thyroïde, schilddrüse*, blood sugar, glucose, glucosa, glycémie, blutzucker*,
            zuckerkrank*""",
        "psychiatry": """
            psychiatr*, psiquiatr*, mental health, salud mental, santé mentale, psychische
            gesundheit, psycholog*, psicolog*, psicológ*, psychother*, psychisch*,
            depression*, depresión, anxiety, ansiedad, psychologische beratung*, counselling,
            counseling, terapia psicológica, psychologue*, seelsorge, addiction*, adicci*""",
        "dentistry": """
            dentist*, dental*, odontolog*, odontológ*, dentaire*, zahnarzt*, zahnärzt*,
            zahnmedizin*, orthodon*, ortodon*, chirurgien-dentiste""",
        "pharmacy": """
            pharmac*, farmac*, farmacéutic*, pharmaceutical*, pharmazeut*, pharmazie,
            apotheke*, medikament*, médicament*, medicamento*, prescription*, receta médica,
            ordonnance*, arzneimittel*, medication*, drug interactions, posolog*, dosage*,
            dosis, dosierung*, nombres de medicamentos, drug name*, noms de médicaments""",
        "emergency": """
            emergency medicine, emergency room, emergency department, emergency, er triage,
            urgencias, emergencias, urgences, notaufnahme*, notfall*, notfallmedizin,
            paramedic*, first aid, primeros auxilios, premiers secours, erste hilfe""",
        "surgery": """
            surgery, surgical, surgeon*, cirug*, cirujan*, quirúrgic*, chirurg*, opératoire*,
            operatoire*, operationsbericht*, op-bericht*, post-operative*""",
        "nutrition": """
            nutrition*, nutrición, nutricion*, dietet*, dietétic*, diététi*, ernährung*,
            dietician*, dietitian*""",
        "ophthalmology": """
            ophthalm*, oftalm*, ophtalm*, augenheilkunde, augenarzt*, augenärzt*, retina, eye
            clinic*, eye disease*, optometr*""",
        "gynecology": """
            gynec*, gynaec*, ginec*, gynéco*, gynäkolog*, frauenheilkunde, frauenarzt*,
            obstetric*, obstétric*, obstetr*, obstétri*, midwi*, matron*, sage-femme*,
            sages-femmes, hebamme*, maternity, maternidad, maternité, geburtshilfe, pregnan*,
            embaraz*, grossesse*, schwanger*""",
        "geriatrics": """
            geriatr*, geriátr*, gériatr*, elderly care, elder care, cuidado de ancianos,
            personnes âgées, altenpflege*, altersmedizin, nursing home*""",
        "orthopedics": """
            orthop*, ortop*, traumatolog*, physiotherap*, fisioterap*, kinésithérap*,
            kinesitherap*, krankengymnastik""",
        "urology": """
            urolog*, urológ*, nephrolog*, nefrolog*, néphrolog*, kidney*, riñón, riñones,
            niere*""",
        "pulmonology": """
            pulmon*, pulmón*, pneumolog*, neumolog*, lung, lungs, lungen*, respiratory,
            respiratori*, respiratoire*, asthma, asma, asthme""",
        "gastroenterology": "gastroent*, gastroenter*, gastro, digestive, digestiv*, magen-darm*",
        "genetics": """
            genetic*, genétic*, génétique*, genetik*, genomic*, genómic*, génomique*,
            humangenetik""",
        "immunology": "immunolog*, inmunolog*, vaccin*, vacuna*, impf*, allerg*, alergi*, alérgic*",
        "infectious-diseases": """
            infectious disease*, enfermedades infecciosas, maladies infectieuses,
            infektionskrankheit*, infektiologie, malaria, tuberculosis, tuberkulose,
            tuberculose, epidemiolog*, épidémiolog*""",
        "nursing": """
            nursing care, nursing notes, cuidados de enfermería, enfermería, soins infirmiers,
            krankenpflege, pflegedokumentation, pflegebericht*, wound care, wundpflege,
            wundversorgung, cuidado de heridas, soins de plaies, nursing home*, pflegeheim*,
            care home*""",
        "hematology": "hematolog*, haematolog*, hématolog*, hämatolog*, blood disorders",
    },
    "law": {
        "contracts": """
            contract, contracts, contractual, contrato*, contrat, contrats, vertrag*,
            verträge*, *vertrag, *verträge, *verträgen, *vertrags, nda, ndas, vertragsrecht,
            contract law, clauses, cláusulas, clause*, klausel*""",
        "tax": "tax law, derecho fiscal, derecho tributario, droit fiscal, steuerrecht*",
        "criminal": """
            criminal law, criminal*, penal, pénal, droit pénal, derecho penal, strafrecht*,
            strafverfahren*, penale*, pénale*""",
        "family": """
            family law, divorce*, divorcio*, derecho de familia, droit de la famille,
            familienrecht*, scheidung*, custody, custodia""",
        "immigration": """
            immigration*, inmigración, extranjería, asylum*, asilo, asile, asylrecht, asyl*,
            visa, visas, visado*, migra*, ausländerrecht, einwanderung*, refugee*, refugiad*,
            réfugié*""",
        "labour": """
            labor law, labour law, employment law, derecho laboral, derecho del trabajo, droit
            du travail, arbeitsrecht*, labour, employment contracts, prud'hom*, laboral*,
            kündigungsschutz*, kündigungsschreiben*, dismissal*, despido*, licenciement*,
            contrats de travail, contrat de travail, contrato de trabajo, contratos de
            trabajo, contratos laborales, arbeitsvertr*, kündigung*""",
        "patents": """
            patent*, intellectual property, trademark*, propiedad intelectual, propriété
            intellectuelle, brevet*, marken*, patentrecht*, urheberrecht*, copyright, ip law,
            derechos de autor, droit d'auteur""",
        "privacy": """
            privacy law*, privacy polic*, data protection law*, data protection officer*, ley
            de protección de datos, derecho a la privacidad, droit des données, protection des
            données personnelles, datenschutzrecht*, datenschutzerklärung*,
            datenschutzbeauftragt*, gdpr, rgpd, dsgvo""",
        "corporate": """
            corporate law, company law, derecho mercantil, derecho societario, droit des
            sociétés, gesellschaftsrecht*, mergers, handelsrecht""",
        "tenancy": """
            tenancy*, tenant*, landlord*, rental law, mietrecht*, mieter*, mietvertrag*,
            arrendamiento*, alquiler*, bail, baux, locataire*, housing law, leases, lease,
            rental agreement*, rental contract*, contrat de location, contrats de location,
            contrato de alquiler, contratos de alquiler, contrato de arrendamiento, contratos
            de arrendamiento, inquilino*, mietverträge*, mietverträgen, mietvertrags*,
            mietsachen, vermieter*, propriétaire bailleur, logement, eviction*, desahucio*,
            expulsion locative, räumungsklage*, nebenkosten*""",
        "constitutional": "constitutional*, constitucional*, constitutionnel*, verfassung*",
        "human-rights": """
            human rights, derechos humanos, droits de l'homme, droits humains, menschenrecht*""",
        "consumer": """
            consumer law, consumer protection, derecho del consumidor, droit de la
            consommation, verbraucherrecht*, verbraucherschutz*""",
        "traffic": """
            traffic law, traffic fines, traffic tickets, multas de tráfico, code de la route,
            verkehrsrecht*, bußgeld*""",
        "inheritance": """
            inheritance, herencia*, héritage*, erbrecht*, erbschaft*, successions, testament*,
            wills and estates, probate, sucesiones""",
    },
    "finance": {
        "tax": """
            tax, taxes, taxation, tax return*, impuesto*, fiscalidad, tributari*, impôt*,
            impot*, fiscalité, steuer, steuern, steuererklärung*, steuer*, vat, iva, tva,
            mehrwertsteuer, hacienda, fiscal, fiscales, fiscaux, fiscale, tributario,
            tributaria, declaración de la renta, déclaration d'impôts, finanzamt,
            steuererklärung, steuerbescheid*, umsatzsteuer, irs""",
        "banking": "banking, banca, bancari*, bancaire*, bankwesen, bankgeschäft*, retail bank*",
        "accounting": """
            accounting, bookkeeping, contabilidad, comptabilité, comptable*, buchhaltung*,
            buchführung*, ledger*, balance sheet*, rechnungswesen, bilanz*""",
        "insurance": """
            insurance*, insurer*, seguro, seguros, aseguradora*, assurance*, assureur*,
            versicherung*, *versicherung, underwriting, claims handling""",
        "trading": """
            trading, stocks, stock market, shares, equities, acciones, bolsa de valores,
            mercado de valores, bourse, actions boursières, aktien*, wertpapier*, börsen*,
            hedge fund*, day trader*""",
        "audit": """
            audit, audits, auditing, auditor*, auditoría*, auditoria*, wirtschaftsprüf*, audit
            financier""",
        "crypto": """
            crypto, cryptocurrenc*, criptomoneda*, cryptomonnaie*, kryptowährung*, bitcoin,
            blockchain, krypto""",
        "credit": """
            credit, loan*, lending, mortgage*, crédito*, préstamo*, prestamo*, hipoteca*,
            crédit, crédits, prêt, prêts, hypothèque*, kredit*, darlehen*, hypothek*,
            microfinance, microcrédit*, microcrédito*, credit scoring, loan application*,
            kreditantr*, solicitudes de préstamo, solicitudes de crédito, demandes de prêt,
            demandes de crédit""",
        "personal": """
            personal finance, budgeting, household budget*, finanzas personales, finances
            personnelles, haushaltskasse, persönliche finanzen, savings, ahorro*, épargne,
            sparen""",
        "fraud": "fraud*, fraude*, betrug*, money laundering, blanqueo*, blanchiment, geldwäsche*",
        "pensions": "pension*, jubilación*, retraite, retraites, rente, renten*, retirement",
    },
    "science": {
        "physics": "physics, física, physique, physik*",
        "chemistry": "chemistry, química, chimie, chemie*",
        "biology": "biology, biología, biologie*",
        "astronomy": "astronom*, astrophys*, astrofísica",
        "materials": """
            materials science, ciencia de materiales, science des matériaux,
            materialwissenschaft*""",
        "geology": "geolog*, geológ*, géolog*",
        "climate": "climate science, climatolog*, klimaforschung",
    },
    "education": {
        "mathematics": """
            math, maths, mathematic*, matemátic*, matematic*, mathématique*, mathematik*,
            mathe, arithmetic*, arithmétique*, mathe*, matemáticas, rechenaufgabe*, fractions,
            fracciones, bruchrechn*""",
        "algebra": "algebra, álgebra, algèbre",
        "geometry": "geometry, geometría, géométrie, geometrie, trigonometry",
        "calculus": "calculus, cálculo, calcul intégral, analysis 1",
        "history": """
            history, historia, histoire, geschichte, geschichtsunterricht*, history lesson*,
            historia de, histoire-géo, geschichtsunterricht""",
        "physics": "physics, física, physique, physik*",
        "chemistry": "chemistry, química, chimie, chemie*",
        "biology": "biology, biología, biologie*",
        "geography": "geography, geografía, géographie, geografie, erdkunde",
        "languages": """
            language learning, learning languages, language learners, aprendizaje de idiomas,
            apprentissage des langues, sprachunterricht, sprachkurs*, language lessons,
            fremdsprachen*, vocabulary, vocabulario, vocabulaire, vokabel*, *vokabel*,
            vokabeltrainer, language class*, clases de inglés, clases de francés, clases de
            alemán, cours d'anglais, cours d'espagnol, cours d'allemand, englischunterricht,
            französischunterricht, spanischunterricht, aprender inglés, apprendre l'anglais,
            englisch lernen, learn english, learn spanish, learn french, learn german,
            aprender idiomas, apprendre une langue, learn the language, learning the language,
            learning a language, aprender el idioma, apprendre la langue, die sprache lernen,
            sprache lernen, language learner*, vocabulary practice, sprachen lernen,
            conjugat*, conjugaison*, conjugación*""",
        "primary": """
            primary school*, elementary school*, escuela primaria, primaria, école primaire,
            ecole primaire, école élémentaire, grundschule*, grundschul*, kindergarten,
            preschool""",
        "secondary": """
            high school*, secondary school*, secundaria, instituto de secundaria,
            bachillerato, lycée*, gymnasium, realschule*, middle school""",
        "university": """
            university, universities, universidad*, universitari*, université*,
            universitaire*, universität*, hochschul*, undergraduate*, higher education""",
        "special-needs": """
            special needs, special education, educación especial, éducation spécialisée,
            sonderpädagogik, dyslexi*, dislexi*, autis*""",
        "reading": """
            reading comprehension, literacy, comprensión lectora, alfabetización,
            compréhension écrite, leseförder*, leseverständnis, learn to read""",
        "literature": "literature, literatura, littérature, deutschunterricht",
        "economics": "economics lessons, economics class*",
        "computer-science": "computer science, informática, informatique, informatik*",
        "philosophy": "philosoph*, filosof*",
    },
    "code": {
        "python": "python",
        "javascript": "javascript, typescript, node.js, nodejs, react, js",
        "java": "java, kotlin, jvm",
        "rust": "rust",
        "cpp": "c++, cpp",
        "csharp": "c#, csharp, .net, dotnet",
        "go": "golang",
        "sql": """
            sql, database queries, consultas de base de datos, requêtes de base de données,
            datenbankabfrag*, databases, bases de datos, bases de données, datenbank*""",
        "web": """
            web development, frontend*, front-end, html, css, desarrollo web, développement
            web, webentwicklung, web page*""",
        "php": "php, laravel",
        "ruby": "ruby, rails",
        "shell": "bash, shell script*, shell, shell-skript*",
        "embedded": "firmware, embedded software, embedded c",
        "testing": """
            unit tests, unit test*, test cases, tests unitaires, pruebas unitarias, unittests""",
        "devops": "devops, kubernetes, docker, terraform",
        "data-science": """
            data science, pandas, machine learning code, ciencia de datos, science des données""",
    },
    "agriculture": {
        "irrigation": "irrigat*, riego*, irrigación, bewässer*, drip irrigation, arrosage",
        "livestock": """
            livestock, cattle, cows, cow, sheep, goats, pigs, poultry, ganader*, ganado*,
            vacas, ovejas, élevage, elevage*, bétail, vaches, vache, éleveur*, viehzucht,
            vieh*, kühe, rinder*, schafe, schweine*, milchvieh*, geflügel*, chickens,
            gallinas, avicultura, volaille*, schaf, schafen, schafzucht, ziege, ziegen, goat,
            ovino*, bovino*, ovins, bovins, chèvre*, brebis, porcino*, porcs, hühner*, hens,
            poules, herd, herds, rebaño*, troupeau*, herde*""",
        "dairy": """
            dairy*, milk*, lechería, lecher*, laitier*, laitière*, milchwirtschaft, molkerei*,
            leche, lait, milch*""",
        "viticulture": """
            viticult*, vineyard*, wine, wines, winemak*, vino, vinos, viñedo*, viña*,
            viticultor*, vigne, vignes, vignoble*, vin, vins, vigneron*, weinbau*, wein*,
            winzer*, enolog*, œnolog*, oenolog*, vines, weinbauberatung, reben, rebstöck*,
            grapes, uvas, raisin, trauben*, rebkrankheit*""",
        "crops": """
            crop, crops, wheat, maize, corn, rice, cultivo*, trigo, maíz, arroz, cereales,
            céréales, blé, maïs, riz, weizen, reis, getreide*, ackerbau, grain, cereals,
            potato*, patata*, pommes de terre, kartoffel*, tomato*, tomaten, tomates, soy,
            soja, barley, gerste, cebada, orge, sunflower*, girasol*, sonnenblume*,
            zuckerrüben, quinoa, saat*, maisanbau, maiz, maladies du blé, weizenanbau, corn
            field*""",
        "pests": """
            pest, pests, pesticide*, plaga*, ravageur*, schädling*, weed, weeds, malas
            hierbas, mauvaises herbes, unkraut, plant disease*, plagas, maladies des plantes,
            maladies de la vigne, pflanzenschutz*, pflanzenkrankheit*, herbicide*, crop
            diseases, fitosanitari*, phytosanitaire*""",
        "soil": "soil*, suelo*, sols, boden*, fertili*, abono*, engrais, dünge*, compost*",
        "beekeeping": """
            bee, bees, beekeep*, apicult*, abeja*, abeille*, imker*, bienen*, honey, miel,
            beehive*, hives, ruche*, colmena*, bienenstöcke, honig*, imkerei*, bienenhaltung,
            bienenzucht""",
        "horticulture": """
            horticult*, garden*, gardening, jardiner*, jardinage, gärtner*, gemüse*,
            gemüseanbau, vegetables, hortalizas, légumes, maraîch*, maraich*, fruit, fruits,
            frutas, obstbau*, orchard*, greenhouse*, invernadero*, gewächshaus*, huerto*,
            huerta*, potager*, gemüsegarten, jardín*, garten*""",
        "forestry": """
            forest*, forestal*, silvicult*, sylvicult*, forêt*, foresti*, forstwirtschaft*,
            forst*""",
        "coffee": "coffee, café, cafetal*, kaffee*",
        "olive": "olive*, olivo*, olivar*, aceitun*, oliven*",
        "fishing": """
            fishing, fishery, fisheries, aquaculture, pesca, acuicultura, pêche, fischerei*,
            fischzucht""",
        "weather": "weather advice, meteo*, wetter*",
    },
    "sports": {
        "soccer": """
            soccer, football*, fútbol, futbol*, foot, fußball*, fussball*, footballer*,
            fußballverein*, football club, club de fútbol, club de foot, fußballspiel*,
            premier league, bundesliga, laliga""",
        "gymnastics": """
            gymnast*, gimnas*, turnen, turner*, turnverein*, turnerin*, geräteturnen,
            turnhalle""",
        "tennis": "tennis*, tenis",
        "basketball": "basketball*, baloncesto, basket, basquet*, nba",
        "cycling": """
            cycling, cyclist*, ciclis*, cyclisme, radsport*, radfahr*, radrennen, tour de
            france""",
        "swimming": "swimming, swimmer*, natación, natation, schwimm*, nageur*",
        "running": """
            marathon*, maratón, runner*, course à pied, laufsport, joggen, jogging, running
            coach*, distance running""",
        "rugby": "rugby",
        "handball": "handball*, balonmano",
        "volleyball": "volleyball*, voleibol, volley",
        "skiing": "skiing, ski, skis, skiers, esquí, skifahren, skisport",
        "boxing": "boxing, boxeo, boxe, boxen, martial arts, judo, karate",
        "fitness": """
            fitness, gym, workout*, gimnasio, musculation, krafttraining, strength training""",
        "golf": "golf*",
        "cricket": "cricket",
        "chess": "chess, ajedrez, échecs, schach*",
        "baseball": "baseball, béisbol",
        "athletics": "track and field, athletics, atletismo, athlétisme, leichtathletik",
        "climbing": "climbing, escalada, escalade, klettern",
    },
    "support": {
        "telecom": """
            telecom*, telco, internet provider, telecomunicaci*, télécom*, telekommunikation*,
            mobilfunk*""",
        "it": """
            it support, it helpdesk, it help desk, soporte informático, support informatique,
            it-support, password reset*""",
        "returns": """
            returns, refunds, devoluciones, reembolsos, retours, remboursements, retouren,
            rückerstattung*""",
        "billing": "billing, facturación, facturation, abrechnung*",
    },
    "travel": {
        "hotels": "hotel*, hôtel*, hotellerie, hostelería",
        "flights": "flight*, airline*, vuelo*, vol, vols, flüge, flug*, aerolínea*",
        "museums": "museum*, museo*, musée*, museen",
    },
    "engineering": {
        "automotive": """
            automotive, automobil*, automóvil*, kfz*, car repair, autowerkstatt*, automotriz,
            cars""",
        "aerospace": """
            aerospace, aeronautic*, aeronáutic*, aéronautique*, luftfahrt*, aviation,
            raumfahrt*""",
        "construction": """
            construction, construcción, bâtiment, btp, bauwesen, baustelle*, building site*,
            civil engineering, obra civil""",
        "electrical": """
            electrical, eléctric*, électri*, elektro*, electrician*, electricista*,
            elektriker*, elektrotechnik""",
        "maintenance": """
            maintenance, mantenimiento, wartung*, instandhaltung*, predictive maintenance""",
        "robotics": "robotic*, robótica, robotique, robotik*",
        "mechanical": "mechanical, mecánica, mécanique, maschinenbau*",
        "hvac": """
            hvac, heating, climatisation, calefacción, heizung*, plumbing, fontanería,
            plomberie""",
    },
    "news": {
        "politics": "political news, politics, política, politique, politik*",
        "sports": "sports news, noticias deportivas, actualité sportive, sportnachrichten, sport",
        "local": "local news, noticias locales, actualités locales, lokalnachrichten, lokal*",
        "economy": """
            business news, economic news, wirtschaftsnachrichten, noticias económicas,
            actualité économique""",
    },
}
