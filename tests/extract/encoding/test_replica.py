import torch

from sparc.extract.encoding.chunk_queue import ChunkQueue
from sparc.extract.encoding.chunks import ChunkTable
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import Replica


def test_a_job_that_is_stopped_does_not_go_through_all_captions_of_its_chunk(
    fake_dataset, fake_encoders, monkeypatch
) -> None:
    # A chunk of thousands of captions takes a CPU minutes: Ctrl-C must not wait for them.
    dataset = fake_dataset([["caption"]] * 20)
    chunk = ChunkTable(dataset.manifest().rows).chunk(0, range(20), ["t"])
    queue = ChunkQueue(iter([chunk]), ahead=2)
    encoders = fake_encoders()({"t": None}, torch.device("cpu"))
    encoder = encoders["t"]
    encode, sizes = encoder.encode, []

    def encode_and_stop(captions):
        sizes.append(len(captions))
        queue.stop()
        return encode(captions)

    monkeypatch.setattr(encoder, "encode", encode_and_stop)
    replica = Replica(torch.device("cpu"), encoders, batch_size=2, threads=1)
    with ImageLoader(dataset, 1) as loader:
        assert list(replica.run(queue, loader, rows_done=lambda _: None)) == []
    assert sizes == [2]
