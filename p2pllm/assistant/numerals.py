"""Number words of English, Spanish, French and German, accents off: data alone."""

NUMBERS = """
    a=1, an=1, one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10,
    eleven=11, twelve=12, fifteen=15, sixteen=16, twenty=20, thirty=30, thirty two=32, forty=40,
    fifty=50, sixty=60, sixty four=64, hundred=100, a hundred=100, one hundred=100, two
    hundred=200, two hundred and fifty=250, two hundred fifty=250, three hundred=300, four
    hundred=400, five hundred=500, five hundred and twelve=512, five hundred twelve=512, six
    hundred=600, seven hundred=700, seven hundred and fifty=750, seven hundred fifty=750, eight
    hundred=800, nine hundred=900, thousand=1000, a thousand=1000, one thousand=1000, a couple
    of=2, a dozen=12, un=1, una=1, uno=1, dos=2, tres=3, cuatro=4, cinco=5, seis=6, siete=7,
    ocho=8, nueve=9, diez=10, once=11, doce=12, quince=15, dieciseis=16, veinte=20, treinta=30,
    treinta y dos=32, cuarenta=40, cincuenta=50, sesenta y cuatro=64, cien=100, ciento
    cincuenta=150, doscientos=200, doscientos cincuenta=250, trescientos=300, cuatrocientos=400,
    quinientos=500, quinientos doce=512, seiscientos=600, setecientos=700, setecientos
    cincuenta=750, ochocientos=800, novecientos=900, mil=1000, un par de=2, doscientas=200,
    quinientas=500, une=1, deux=2, trois=3, quatre=4, cinq=5, sept=7, huit=8, neuf=9, dix=10,
    onze=11, douze=12, quinze=15, seize=16, vingt=20, trente=30, trente deux=32, quarante=40,
    cinquante=50, soixante=60, soixante quatre=64, cent=100, cent cinquante=150, deux cents=200,
    deux cent cinquante=250, trois cents=300, quatre cents=400, cinq cents=500, cinq cent
    douze=512, six cents=600, sept cents=700, sept cent cinquante=750, huit cents=800, neuf
    cents=900, mille=1000, ein=1, eine=1, einem=1, einer=1, einen=1, eins=1, zwei=2, drei=3,
    vier=4, funf=5, fuenf=5, sechs=6, sieben=7, acht=8, neun=9, zehn=10, elf=11, zwolf=12,
    zwoelf=12, funfzehn=15, sechzehn=16, zwanzig=20, dreissig=30, zweiunddreissig=32, vierzig=40,
    funfzig=50, sechzig=60, vierundsechzig=64, hundert=100, einhundert=100, hundertfunfzig=150,
    zweihundert=200, zweihundertfunfzig=250, dreihundert=300, vierhundert=400, funfhundert=500,
    fuenfhundert=500, funfhundertzwolf=512, sechshundert=600, siebenhundert=700,
    siebenhundertfunfzig=750, achthundert=800, neunhundert=900, tausend=1000, eintausend=1000, ein
    paar=2
"""

# Parts and halves; a plain number may stand before none of them.
HALVES = """
    viertel=0.25, zehntel=0.1, quarter=0.25, cuarto de=0.25, quart de=0.25,
    half a=0.5, half an=0.5, half of a=0.5, half=0.5, one half=0.5, a half=0.5, medio=0.5,
    media=0.5, un demi=0.5, une demi=0.5, demi=0.5, la moitie d un=0.5, la moitie d une=0.5, ein
    halbes=0.5, eine halbe=0.5, einer halben=0.5, einem halben=0.5, halbes=0.5, halbe=0.5,
    halben=0.5, halber=0.5, a quarter of a=0.25, quarter of a=0.25, a quarter=0.25, un cuarto
    de=0.25, un quart de=0.25, ein viertel=0.25, eine viertel=0.25, einer viertel=0.25, three
    quarters of a=0.75, tres cuartos de=0.75, trois quarts de=0.75, dreiviertel=0.75, drei
    viertel=0.75, a tenth of a=0.1, one tenth of a=0.1, tenth of a=0.1, una decima de=0.1, un
    dixieme de=0.1, eine zehntel=0.1, einer zehntel=0.1, a third of a=0.333333, un tercio
    de=0.333333, un tiers de=0.333333, anderthalb=1.5, anderthalbe=1.5, eineinhalb=1.5,
    zweieinhalb=2.5, dreieinhalb=3.5, viereinhalb=4.5, two tenths of a=0.2, dos decimas de=0.2,
    deux dixiemes de=0.2, zwei zehntel=0.2, one and a half=1.5, two and a half=2.5, three and a
    half=3.5, a couple=2
"""
