import pytest

from sparc.extract.datasets.folders.local import LocalFolder
from sparc.extract.datasets.formats.detection import detect_format
from sparc.extract.datasets.formats.videos import look_like_videos, videos_of

VIDEOS = [f"v{number}" for number in range(12)]


@pytest.fixture
def frames(tmp_path, paint):
    """Folders of frames."""

    def build(pattern="{video}/frame_{number:04}.jpg", videos=VIDEOS):
        names = [pattern.format(video=v, number=n) for v in videos for n in range(9, 12)]
        paint(tmp_path, *names)

    return build


@pytest.mark.parametrize(
    "pattern",
    [
        "{video}/frame_{number:04}.jpg",
        "run/{video}/frame{number}.jpg",
        "{video}/{video}_frame_{number}.jpg",
        "{video}-frame-{number}.png",
        "all/{video}/img_Frame{number}_crop.jpg",
    ],
)
def test_a_video_is_never_divided(frames, manifest, pattern):
    frames(pattern)
    parts = {
        split: manifest(holdout=0.4, split=split, columns=("video", "frame")).rows
        for split in ("train", "test")
    }
    videos = {split: {*rows["video"].to_pylist()} for split, rows in parts.items()}
    assert not videos["train"] & videos["test"]
    assert len(videos["train"]) + len(videos["test"]) == len(VIDEOS)
    assert min(map(len, videos.values())) > 0
    for rows in parts.values():  # by video and number, not by name
        assert rows["frame"].to_pylist() == [9, 10, 11] * (len(rows) // 3)
    assert manifest().dataset_format == "frames"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["v1/frame_1.jpg", "v2/frame_1.jpg"], "frames"),
        (["v1/frame_1.jpg", "v1/frame_2.jpg"], "folder"),  # one video
        (["v1/frame_1.jpg", "v2/frame_1.jpg", "v2/cover.jpg"], "folder"),
        (["cat/cat.1.jpg", "cat/cat.2.jpg", "dog/dog.1.jpg", "dog/dog.2.jpg"], "folder"),
        (["v1/frame_1.jpg", "v2/frame_1.jpg", "v2/frame_1.txt"], "folder"),  # captions by frame
    ],
)
def test_auto_takes_only_what_is_called_frames(tmp_path, paint, names, expected):
    paint(tmp_path, *names)
    assert detect_format(LocalFolder(tmp_path)) == expected


def test_a_table_says_what_is_in_a_video(frames, write, manifest, labels):
    frames(videos=["walk", "run", "fly"])
    write(
        "videos.csv",
        "clip,text,label,camera\nclips/walk.mp4,someone walks,slow,7\nrun,someone runs,fast,7\n"
        "walk,she walks,,8\ngone,nothing,none,9\n",
    )
    write("fly.txt", "a bird\n")
    result = manifest(columns=("video",))
    found = {(r["video"], r["caption"]) for r in result.rows.to_pylist()}
    assert found == {
        ("walk", "someone walks"),
        ("walk", "she walks"),
        ("run", "someone runs"),
        ("fly", "a bird"),
    }
    assert len(result.rows) == 3 * 4
    assert labels(result)["run/frame_0010"] == ["fast"]
    table = next(e for e in result.account.used if e.what == "videos.csv")
    assert (table.used, table.unused) == (("clip", "text", "label"), ("camera",))
    (strange,) = result.account.left_out
    assert (strange.why, strange.first) == ("its video is not there", "line 5")


def test_videos_of_one_value_are_held_out_together(frames, write, manifest):
    frames()
    lines = "".join(f"{video},person{number % 3}\n" for number, video in enumerate(VIDEOS[:-1]))
    write("metadata.csv", f"video,person\n{lines}")
    options = {"holdout": 0.5, "holdout_by": "person", "columns": ("person", "video")}
    parts = [manifest(split=split, **options).rows for split in ("train", "test")]
    persons = [{*rows["person"].to_pylist()} - {None} for rows in parts]
    assert sorted(persons[0] | persons[1]) == ["person0", "person1", "person2"]
    assert not persons[0] & persons[1]


def test_splits_and_classes_are_folders(frames, manifest, labels):
    frames("train/run/{video}/frame{number}.jpg", VIDEOS[:2])
    frames("train/walk/{video}/frame{number}.jpg", VIDEOS[2:4])
    frames("test/walk/{video}/frame{number}.jpg", VIDEOS[4:5])
    result = manifest(split="train")
    assert len(result.rows) == 12
    assert labels(result)["train/walk/v3/frame9"] == ["walk"]
    assert len(manifest(split="test").rows) == 3


def test_what_only_looks_like_videos_is_said(frames, manifest):
    frames("{video}/{number:05}.jpg")
    (note,) = manifest(format="folder", holdout=0.5, split="train").account.notes
    assert "--format frames" in note
    assert list(manifest(format="folder").account.lines())[-1] == f"note      {note}"
    options = {"format": "frames", "holdout": 0.5, "columns": ("video",)}
    parts = [manifest(split=split, **options).rows for split in ("train", "test")]
    assert [len({*rows["video"].to_pylist()}) for rows in parts] == [len(r) // 3 for r in parts]
    assert not manifest(format="frames").account.notes


def test_gaps_and_steps():
    steady = [f"{video}/{n}.jpg" for video in "ab" for n in (0, 10, 20, 30, 40, 60)]
    assert look_like_videos(steady)
    assert not look_like_videos(steady[:6])
    assert not look_like_videos([*steady, "c/1.jpg", "c/7.jpg", "c/9.jpg", "c/40.jpg"])
    assert not look_like_videos([*steady, "c/x.jpg"])
    assert [video.name for video in videos_of(["a/x.jpg", "a/y.jpg", "b.jpg"])] == ["", "a"]
