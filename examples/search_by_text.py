"""Search by text among the images of DINO, which has never read a word.

    python examples/search_by_text.py

A caption goes through the text model; its latents, by number, are those of DINO. The demo that
ships with SPARC has captions encoded; with the encoders of `make demo` at hand any text will do:
report.search("a tiger", stream="dino", trust_encoders=True).
"""

import sparc

report = sparc.Report("demo")
rows = sparc.ActivationCache("demo").rows(["caption", "label_ids"]).to_pydict()

hits = chance = queries = 0
for row, (caption, classes) in enumerate(zip(rows["caption"], rows["label_ids"], strict=True)):
    others = [set(classes) & set(other) for i, other in enumerate(rows["label_ids"]) if i != row]
    if len(classes) > 1 or sum(map(bool, others)) < 4:
        continue  # captions of one thing, which four other images show as well
    found = report.search(row=row, source="minilm", stream="dino", results=6)
    found = [other for other in found["row"] if other != row][:5]
    right = sum(classes[0] in rows["label_ids"][other] for other in found)
    if queries < 5:
        print(f"{caption}\n    {right} of 5 show it; the first: {rows['caption'][found[0]]}")
    hits, queries = hits + right / 5, queries + 1
    chance += sum(map(bool, others)) / len(others)

print(f"{queries} captions of one thing: {hits / queries:.0%} of DINO's first five other images")
print(f"show it. Of all images, {chance / queries:.1%} do.")
