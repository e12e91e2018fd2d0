"""Mistakes that beginners make: each message says what is wrong and what to type."""

import re

import pytest


@pytest.fixture(scope="module")
def places(make_cache, saved_model, call, tmp_path_factory):
    """What a beginner has: a cache, a model, their report, one of images only, and a file."""
    root = tmp_path_factory.mktemp("beginner")
    cache = make_cache(root / "cache", rows=60).folder.local
    images = make_cache(root / "plain", rows=60, labels=False).folder.local
    made = {
        "CACHE": cache,
        "PLAIN": images,
        "RUN": saved_model,
        "REPORT": root / "report",
        "IMAGES": root / "images",
        "NEW": root / "new",
        "MINE": root / "mine.csv",
        "PHOTO": root / "photo.jpg",
    }
    (root / "mine.csv").write_text("my own table\n")
    quick = ("--rows", 60, "--no-permuted", "--device", "cpu")
    done = call("analyze", "run", saved_model, cache, root / "report", *quick)
    assert done.returncode == 0, done.stderr
    streams = ("--stream", "dino", "--stream", "clip_image")
    done = call("analyze", "run", saved_model, images, root / "images", *streams, *quick)
    assert done.returncode == 0, done.stderr
    return {name: str(place) for name, place in made.items()}


MISTAKES = [
    # one artefact for another, or none
    ("train CACHE NEW", "did you mean `", "run CACHE NEW`?"),
    ("train cache NEW", "did you mean `", "run cache NEW`?"),
    ("train inspekt RUN NEW", "did you mean 'inspect'?"),
    ("train run RUN NEW", "it is a run; `sparc-extract run DATASET CACHE` makes a cache"),
    ("train run REPORT NEW", "it is a report; give the cache that it was made from, CACHE"),
    ("train run nowhere NEW", "there is no such folder; `sparc-extract run DATASET CACHE`"),
    ("train run CACHE", "missing argument 'RUN'; type `", "run CACHE RUN`"),
    ("train run MINE NEW", "it is a file, not a folder; `sparc-extract run DATASET CACHE`"),
    ("train run CACHE MINE", "cannot write to MINE: it is a file; choose another folder"),
    ("train inspect MINE", "it is a file, not a folder; `sparc-train run CACHE RUN` makes one"),
    ("analyze show MINE --latent 3", "it is a file, not a folder; `sparc-analyze run RUN"),
    ("extract inspect MINE", "it is a file, not a folder; `sparc-extract run DATASET CACHE`"),
    ("train foo", "no such command 'foo'; there are run, resume, align"),
    ("analyze latents REPORT", "no such command 'latents'; there are run, compare, bias"),
    ("train run CACHE NEW --recipe jiont", "must be one of aligned, joint, published"),
    ("train run CACHE NEW --lr fast", "for '--lr'", "run -h` says more"),
    ("train run CACHE NEW x", "unexpected extra", "(x); type `", "run CACHE RUN`"),
    ("train resume REPORT", "it is a report; give the run that it was made from, RUN"),
    ("train inspect CACHE", "it is an activation cache; `sparc-train run CACHE RUN` makes one"),
    ("extract inspect REPORT", "it is a report; give the cache that it was made from, CACHE"),
    ("analyze RUN CACHE NEW", "did you mean `", "run RUN CACHE NEW`?"),
    ("analyze run CACHE RUN NEW", "it is an activation cache; `sparc-train run CACHE RUN`"),
    ("analyze run REPORT CACHE NEW", "it is a report; give the run that it was made from, RUN"),
    ("analyze run RUN CACHE CACHE", "is not empty and not a report", "choose another"),
    ("analyze run RUN CACHE", "missing argument 'REPORT'"),
    ("analyze compare RUN", "it is a run; `sparc-analyze run RUN CACHE REPORT` makes one"),
    ("analyze concepts CACHE", "`sparc-analyze run RUN CACHE REPORT` makes one"),
    ("analyze concepts nowhere", "there is no such folder; `sparc-analyze run RUN CACHE REPORT`"),
    ("analyze browse NEW REPORT", "REPORT is a report, and the report comes first: `sparc-ana"),
    ("analyze browse RUN NEW", "it is a run; `sparc-analyze run RUN CACHE REPORT` makes one"),
    ("analyze browse CACHE NEW", "`sparc-analyze run RUN CACHE REPORT` makes one"),
    ("analyze browse REPORT RUN", "is not empty and not a site", "choose another"),
    ("analyze stability REPORT RUN", "it is a report; give the run that it was made from, RUN"),
    ("analyze localize REPORT PHOTO --text cat", "give the run that it was made from, RUN"),
    # a value without its option, an option that is misspelt
    ("analyze concept REPORT", "did you mean 'concepts'?"),
    ("analyze show REPORT 3", "did you mean --latent 3?"),
    ("analyze show REPORT", "say which latent with --latent, such as --latent 42"),
    ("analyze show REPORT --latent 40", "has no latent 40: its latents are 0 to 39"),
    ("analyze search REPORT apple", "did you mean --text apple?"),
    ("analyze bias REPORT class:dog", "did you mean --attribute class:dog?"),
    ("train run CACHE NEW --latent 64", "no such option: --latent; did you mean --latents"),
    ("train run CACHE NEW --latents 8 --k 9", "k (9) cannot exceed latents (8)"),
    ("analyze concepts REPORT --all", "--all is for --only STREAM"),
    # names that do not exist
    ("analyze concepts REPORT --only dina", "no stream 'dina'", "it has dino, clip_image"),
    ("analyze concepts REPORT --lacking clip", "no stream 'clip'", "it has dino, clip_image"),
    ("analyze concepts REPORT --shared --only dino", "give one of --shared, --only STREAM and"),
    ("analyze concepts IMAGES --lacking dino", "ask with --only clip_image"),
    ("analyze concepts REPORT --class clas", "no class is called 'clas'; there are "),
    ("analyze concepts IMAGES --class dog", "has no classes: leave --class out"),
    ("analyze concepts REPORT --out new.xlsx", "must end in .csv or .parquet, not new.xlsx"),
    ("analyze concepts REPORT --out MINE", "MINE exists and is not a CSV file"),
    ("analyze search REPORT --latent 3", "say with --in which stream to search: dino, clip_image"),
    ("analyze search REPORT --row 5 --in clip", "no stream 'clip'", "it has dino, clip_image"),
    ("analyze search REPORT --in dino", "give one of --text, --image, --row and --latent"),
    ("analyze search IMAGES --text cat --in dino", "no stream of IMAGES reads texts: ask with"),
    ("analyze search REPORT --image PHOTO --in dino", "there is no image PHOTO"),
    ("analyze name REPORT", "give a file of words with --words"),
    ("analyze name IMAGES --words MINE", "no stream of IMAGES reads texts"),
    ("analyze bias REPORT", "say what to look for with --attribute"),
    ("analyze bias REPORT --attribute dog", "did you mean class:dog or words:dog?"),
    ("analyze bias REPORT --attribute words:zebra", "0 of 30 images have it"),
    ("analyze bias IMAGES --attribute class:dog", "has no classes: it was made without labels"),
    ("analyze localize RUN PHOTO --text cat", "there is no image PHOTO"),
    ("analyze localize RUN PHOTO", "give a query: --text TEXT or --latent NUMBER"),
    ("extract run nowhere NEW --preset dinov2-clip-b", "there is no dataset folder nowhere"),
    ("extract run CACHE NEW", "say which encoders to run: --stream 'name=spec'"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_mistake_is_answered_with_what_to_type(mistake, places, call):
    typed, *said = mistake
    stage, *arguments = (places.get(word, word) for word in typed.split())
    done = call(stage, *arguments)
    assert done.returncode == 2
    assert "Usage" not in done.stderr
    shown = done.stderr.splitlines()[-1]  # one line, whatever was said before
    assert shown.startswith("error: ")
    for text in said:
        pattern = re.escape(text)
        for name, place in places.items():  # a message may mean any such artefact, or this one
            pattern = re.sub(rf"\b{name}\b", f"(?:{name}|{place})", pattern)
        assert re.search(pattern, shown), shown
