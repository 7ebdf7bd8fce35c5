"""Audio: a sound to log. In: samples, or a path. Out: a WAV file of 16 bits, or the file as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from runfold.media.content import Content
from runfold.media.media import BatchableMedia, need, reference_of
from runfold.media.pixels import as_array

_DTYPES = ("float64", "float32", "int32", "int16")


class Audio(BatchableMedia):
    """A sound for log()."""

    TYPE: ClassVar[str] = "audio-file"
    FOLDER: ClassVar[str] = "media/audio"
    LIST_TYPE: ClassVar[str | None] = "audio"

    def __init__(self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None) -> None:
        """Capture it.

        Args:
            data_or_path: Samples (frames,) or (frames, channels), floats in [-1, 1] or int16, int32; or the
                path of a file.
            sample_rate: Samples a second; needed for samples.

        Raises:
            ValueError: No rate, or no such array. TypeError: Samples of another type.
            OSError: The file is not there. Error: soundfile is not installed.
        """
        super().__init__(caption)
        self.sample_rate = sample_rate
        #: Seconds; None for a file.
        self.duration: float | None = None
        if reference := reference_of(data_or_path):
            self.reference = reference
        elif isinstance(data_or_path, (str, Path)):
            path = Path(data_or_path)
            self._content = Content.of_file(path, path.suffix)
        elif sample_rate is None:
            raise ValueError(
                'Argument "sample_rate" is required when instantiating wandb.Audio with raw data.'
            )
        else:
            self._take_samples(data_or_path, sample_rate)

    @classmethod
    def describe_list(cls, items: Sequence[Audio], jsons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the form of lists."""
        told: dict[str, Any] = {
            "_type": cls.LIST_TYPE,
            "count": len(items),
            "audio": list(jsons),
            "sampleRates": [item.sample_rate for item in items],
            "durations": [item.duration for item in items],
        }
        captions = [item.caption for item in items]
        if any(caption is not None for caption in captions):
            told["captions"] = [caption or "" for caption in captions]
        return told

    @classmethod
    def durations(cls, audio_list: Sequence[Audio]) -> list[float | None]:
        """Return how many seconds each of them lasts; None for a file."""
        return [item.duration for item in audio_list]

    @classmethod
    def sample_rates(cls, audio_list: Sequence[Audio]) -> list[int | None]:
        """Return the sample rate of each of them, per second."""
        return [item.sample_rate for item in audio_list]

    def _take_samples(self, data: Any, sample_rate: int) -> None:
        soundfile = need("soundfile", "runfold.Audio of samples")
        samples = as_array(data).copy()
        if samples.ndim not in (1, 2):
            raise ValueError(f"samples are (frames,) or (frames, channels), not {list(samples.shape)}")
        if samples.dtype.name not in _DTYPES:
            raise TypeError(f"samples of {samples.dtype.name}: dtype must be one of {list(_DTYPES)}")
        if sample_rate <= 0:
            raise ValueError(f"a sample rate of {sample_rate}: it is a number above 0")
        self.duration = len(samples) / float(sample_rate)
        self._content = Content.captured(
            ".wav", lambda path: soundfile.write(path, samples, int(sample_rate)), samples.nbytes
        )
