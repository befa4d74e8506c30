"""Words for devices and languages in English, Spanish, French and German: data as in `domains`."""

from collections.abc import Mapping

DEVICES: Mapping[str, str] = {
    "raspberry-pi": """
        raspberry*, raspi*, rpi, rpi4, rpi5, raspberry-pi*, pi 4, pi 5, pi 3, pi zero, pi4,
        pi5, rasperry*, rasberry*, pi zero 2, himbeer pi, rasp pi, raspi zero""",
    "phone": """
        phone*, smartphone*, smart phone*, mobile phone*, cell phone*, cellphone*, cell,
        mobile, mobiles, iphone*, android*, android phone*, handset*, pixel, galaxy s*,
        teléfono*, telefono*, móvil, móviles, celular*, téléphone*, telephone*, portable,
        ordiphone*, handy*, handys, mobiltelefon*, telefon, mobilgerät*, fairphone*, *handy,
        *smartphone, smartphones, telefone, iphones, teléfonos, cell phones, phones, smartfon,
        galaxy phone, telephones, fon, feature phone, handset, pixel 8, teléfono inteligente,
        smart phone, ios device, mobiltelefone, mobilen gerät, mobile gerät, telefonino,
        móviles android, xiaomi, samsung galaxy, oppo, huawei phone""",
    "tablet": """
        tablet*, tablette*, ipad*, ipads, tableta*, galaxy tab, *tablet, *tablets, *tablette,
        android tablet*, tablet android, tablette android, ardoise numérique, surface go,
        surface pro, fire tablet, kindle fire, e reader, ereader, liseuse, tablet pc, tablets
        pc, ipad mini, tabletas, tablettes, pad, ipad pro, ipad air, lenovo tab, samsung tab,
        tab s9, drawing tablet, tablet computer, tableta android""",
    "laptop": """
        laptop*, lap top*, notebook*, macbook*, chromebook*, ultrabook*, thinkpad*, portátil,
        portatil, portátiles, ordenador portátil, computadora portátil, computador portátil,
        ordinateur portable, ordinateurs portables, pc portable, pc portables, netbook*,
        klapprechner, *laptop, *laptops, *notebook, notebook computer, mac book*, portable
        computer, ordi portable, ordis portables, notebook pc, firmenlaptop, dell xps, surface
        laptop, mac portable, portátil gamer, gaming laptop, laptops, schlepptop, convertible,
        framework laptop, libro de notas, dienstlaptop, notebooks, surface book, zenbook,
        latitude, probook, elitebook, ideapad, yoga laptop, asus laptop, hp laptop, portable
        pc, klapp-rechner, mobile workstation""",
    "desktop": """
        desktop*, desktop pc, pc, pcs, workstation*, personal computer*, imac*, mac mini,
        tower pc, office computer*, gaming pc, gaming rig, computer, computers, ordenador*,
        ordenador de sobremesa, computadora*, computador, sobremesa, pc de escritorio, equipo
        de escritorio, ordinateur*, ordinateur de bureau, ordinateur fixe, pc fixe, poste de
        travail, station de travail, ordi, rechner*, standrechner*, tischrechner*,
        arbeitsplatzrechner*, desktop-pc, desktop-rechner, *rechner, *computer, bürorechner,
        home computer, praxisrechner, compu, desktops, tour pc, kassenrechner, arbeitsrechner,
        imac pro, ordinateur du cabinet, pc de la oficina, pc del trabajo, pc du bureau, mac
        studio, mac pro, heimcomputer, heim-pc, computadoras, estación de trabajo, estacion de
        trabajo, ordenador de mesa, pc gamer, gaming computer, tower, arbeitsstation,
        standcomputer, tischcomputer, optiplex, all-in-one pc, home pc, office pc, work pc,
        lab computer, school computer, library computer*, torre, pc sobremesa, equipo del
        despacho, poste fixe, unité centrale, kiosk pc, terminal de oficina, praxis-pc,
        büro-pc, windows pc, windows computer, linux pc""",
    "server": """
        server*, servers, servidor*, serveur*, cloud, vps, data center*, datacenter*, rack,
        cluster, rechenzentrum, centro de datos, centre de données, *server, nube, nas,
        mainframe, virtual machine, vm, on-prem, edge server, aws, azure, on premise,
        on-premises, servidores, serveurs, servern, serverraum, kubernetes cluster, hosted,
        hébergé, hosting, linux box, server room, machine virtuelle, máquina virtual,
        virtuelle maschine, vserver, root server, rootserver, gpu server, blade, proxmox,
        backend, dedicated server, home server, homelab, synology, qnap, nas box, bare metal,
        ec2, gcp, azure vm, heimserver, servidor dedicado, serveur dédié, docker host, hpc,
        cluster node""",
    "watch": """
        watch, watches, smartwatch*, smart watch*, wearable*, apple watch, reloj*, reloj
        inteligente, montre*, montre connectée, uhr, armbanduhr, smarte uhr, *uhr, fitness
        band, smart-watch, on my wrist, en la muñeca, au poignet, am handgelenk, smartwatches,
        pulsera, garmin, fitbit, galaxy watch, wear os, pulsera inteligente, bracelet
        connecté, fitnessarmband, wrist device, wrist""",
    "embedded": """
        embedded, embedded device*, embedded board*, embedded system*, microcontroller*,
        arduino*, esp32, iot, iot device*, iot gateway*, internet of things, single board
        computer*, single-board computer*, orange pi, beaglebone*, microcontrolador*,
        microcontrôleur*, mikrocontroller*, eingebettet*, embebid*, embarqué*, système
        embarqué, dispositivo integrado, placa, einplatinen*, objet connecté, internet de las
        cosas, sensor node, edge device*, edge box, gateway, raspberry alternative, plc, iot
        board, esp8266, stm32, microcontrollers, sbc, capteur*, sensor*-board, platine,
        steuergerät, placa embebida, carte embarquée, sensorknoten, set top, smart speaker,
        altavoz inteligente, enceinte connectée, smart home hub, hub domótico, home automation
        box, router, industrial controller, sps, autómata, automate, kiosk, kiosque, quiosco,
        pos terminal, kassenterminal, terminal de paiement, smart camera, cámara inteligente""",
    "jetson": "jetson*, nvidia jetson*, jetson nano, jetson orin",
    "mini-pc": "mini pc, mini-pc, minipc, nuc, intel nuc, thin client*",
    "browser": "browser*, web browser, navegador*, navigateur*, webbrowser*",
    "car": """
        in-car, my car, the car, our cars, vehicle*, infotainment, coche, voiture, fahrzeug*,
        bordcomputer, camión, tractor cab, truck cab""",
    "robot": "robot, robots, drone*, dron, drones, drohne*, roboter*",
    "tv": "tv, television, smart tv, televisor, télévision, fernseher, set top box",
    "this-device": """
        this machine, this computer, this device, this laptop, this pc, this box, my own
        machine, este equipo, esta máquina, este ordenador, este dispositivo, cette machine,
        cet ordinateur, cet appareil, dieser rechner, diesem rechner, diesem gerät, dieses
        gerät, dieser computer, diesem computer, my machine, current machine""",
    "-": """
        computer science, on the web, phone number*, phone call*, mobile clinic*, telephone
        calls, mobile app development, watch out, phone support, computer vision, computer
        shop, numéro de téléphone, números de teléfono""",
}

LANGS: Mapping[str, str] = {
    "en": """
        english, inglés, inglesa, inglesas, ingleses, anglais, anglaise, anglaises, englisch,
        englische, englischen, englischer, englisches, englischsprachig*, english-language,
        english-speaking, anglophone*, angloparlante*, anglófon*""",
    "es": """
        spanish, español, española, españoles, españolas, castellano, castellana, espagnol,
        espagnole, espagnols, espagnoles, spanisch, spanische, spanischen, spanischer,
        spanisches, spanischsprachig*, hispanophone*, hispan*, castilian, spanish-speaking""",
    "fr": """
        french, francés, francesa, franceses, francesas, français, française, françaises,
        französisch, französische, französischen, französischer, französisches,
        französischsprachig*, francophone*, francófon*, francophon*, french-speaking""",
    "de": """
        german, alemán, alemana, alemanes, alemanas, allemand, allemande, allemands,
        allemandes, deutsch, deutsche, deutschen, deutscher, deutsches, deutschem,
        deutschsprachig*, germanophone*, german-speaking, german-language, swiss german,
        schweizerdeutsch""",
    "it": """
        italian, italiano, italiana, italianos, italianas, italien, italienne, italiens,
        italiennes, italienisch*, italian-language""",
    "pt": """
        portuguese, portugués, portuguesa, portugueses, portugais, portugaise, portugiesisch*,
        brazilian portuguese, brasileño""",
    "nl": """
        dutch, neerlandés, holandés, holandesa, néerlandais, néerlandaise, hollandais,
        niederländisch*, holländisch*, flemish, flämisch*, flamenco neerlandés""",
    "pl": "polish, polaco, polaca, polonais, polonaise, polnisch*",
    "ru": "russian, ruso, rusa, russe, russes, russisch*",
    "uk": "ukrainian, ucraniano, ucraniana, ukrainien, ukrainienne, ukrainisch*",
    "tr": "turkish, turco, turca, turc, turque, türkisch*",
    "ar": "arabic, árabe, arabe, arabisch*",
    "zh": """
        chinese, mandarin, mandarín, chino, china mandarin, chinois, chinoise, chinesisch*,
        mandarin chinese, hochchinesisch""",
    "ja": "japanese, japonés, japonesa, japonais, japonaise, japanisch*",
    "ko": "korean, coreano, coreana, coréen, coréenne, koreanisch*",
    "hi": "hindi",
    "bn": "bengali, bengalí, bangla, bengalisch*",
    "ur": "urdu, ourdou",
    "sw": "swahili, suajili, kiswahili, kisuaheli, suaheli",
    "vi": "vietnamese, vietnamita, vietnamien, vietnamienne, vietnamesisch*",
    "th": "thai, tailandés, thaï, thaïlandais, thailändisch*",
    "id": "indonesian, indonesio, indonésien, indonesisch*, bahasa indonesia",
    "el": "greek, griego, griega, grec, grecque, griechisch*",
    "he": "hebrew, hebreo, hébreu, hebräisch*",
    "fa": "persian, farsi, persa, persan, persisch*",
    "sv": "swedish, sueco, sueca, suédois, suédoise, schwedisch*",
    "da": "danish, danés, danesa, danois, danoise, dänisch*",
    "no": "norwegian, noruego, noruega, norvégien, norvégienne, norwegisch*",
    "fi": "finnish, finlandés, finés, finnois, finnisch*, finlandais",
    "cs": "czech, checo, checa, tchèque, tschechisch*",
    "hu": "hungarian, húngaro, húngara, hongrois, hongroise, ungarisch*",
    "ro": "romanian, rumano, rumana, roumain, roumaine, rumänisch*",
    "bg": "bulgarian, búlgaro, bulgare, bulgarisch*",
    "ca": "catalan, catalán, catalana, katalanisch*, català",
    "eu": "basque, euskera, vasco, baskisch*",
    "gl": "galician, gallego, gallega, galicien, galicisch*",
    "hr": "croatian, croata, croate, kroatisch*",
    "sr": "serbian, serbio, serbe, serbisch*",
    "ta": "tamil, tamoul",
    "te": "telugu",
    "am": "amharic, amárico, amharique, amharisch*",
    "yo": "yoruba",
    "ha": "hausa, haoussa",
    "la": "latin, latín, lateinisch*, latein",
    "mul": """
        multilingual, several languages, many languages, any language, multiple languages,
        varios idiomas, multilingüe, plusieurs langues, multilingue, mehrsprachig*, mehrere
        sprachen""",
}
