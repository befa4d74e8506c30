"""Say in four languages what is needed, and see what was understood and what is asked back.

Run: python examples/08_say_what_you_need.py     (no network, no files)
"""

from p2pllm.assistant import dialogue
from p2pllm.assistant.reading import NAMES

WISHES = (
    "a medical summariser in English for our clinic tablet, at most 2 GB, half a second",
    "que responda dudas sobre riego en español desde una Raspberry Pi con medio giga libre",
    "pour traduire des contrats de l'anglais vers le français sur mon portable, 512 Mo",
    "Ich brauche etwas für Arztbriefe, nicht auf Englisch, sondern auf Deutsch",
)


def main() -> None:
    """Rules read the wish; what is missing is asked for in the language of the words."""
    for wish in WISHES:
        reply = dialogue.understand(wish)
        said = {name: getattr(reply.slots, name) for name in NAMES if getattr(reply.slots, name)}
        print(f"wish     {wish}")
        print(f"  read   {said}")
        for question in reply.questions:
            if question.required:
                print(f"  ask    {question.text}")
    last = dialogue.understand("zusammenfassen, drei Gigabyte", reply.slots)
    assert last.ready
    print(f"then     {dialogue.wants_of(last.slots)}")


if __name__ == "__main__":
    main()
