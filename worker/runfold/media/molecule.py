"""Molecule: the structure of a molecule to log. In: a file of a known format, RDKit's objects, SMILES."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from runfold.errors import Error
from runfold.media.content import Content
from runfold.media.media import BatchableMedia, all_captions
from runfold.media.open_files import bytes_of, path_of


class Molecule(BatchableMedia):
    """A molecule for log()."""

    TYPE: ClassVar[str] = "molecule-file"
    FOLDER: ClassVar[str] = "media/molecule"
    LIST_TYPE: ClassVar[str | None] = "molecule"
    SUPPORTED_TYPES: ClassVar[frozenset[str]] = frozenset(
        {"pdb", "pqr", "mmcif", "mcif", "cif", "sdf", "sd", "gro", "mol2", "mmtf"}
    )
    SUPPORTED_RDKIT_TYPES: ClassVar[frozenset[str]] = frozenset({"mol", "sdf"})

    def __init__(
        self, data_or_path: Any, caption: str | None = None, *, file_type: str | None = None
    ) -> None:
        """Capture it.

        Args:
            data_or_path: Path of a file, or a file object.
            file_type: Of what a file object without a name holds: pdb, pqr, mmcif, ...

        Raises:
            ValueError: No such type is known, or it is no file. OSError: The file is not there.
        """
        super().__init__(caption)
        known = ", ".join(sorted(self.SUPPORTED_TYPES))
        path = path_of(data_or_path)
        if path is not None:
            if path.suffix[1:] not in self.SUPPORTED_TYPES:
                raise ValueError(f"Molecule only supports files of the type: {known}")
            self._content = Content.of_file(path, path.suffix)
        elif hasattr(data_or_path, "read"):
            if file_type is None:
                raise ValueError("Must pass file_type keyword argument when using io objects.")
            if file_type not in self.SUPPORTED_TYPES:
                raise ValueError(f"Molecule 3D only supports files of the type: {known}")
            self._content = Content.of_bytes(f".{file_type}", bytes_of(data_or_path))
        else:
            raise ValueError("Data must be file name or a file object")

    @classmethod
    def from_rdkit(
        cls,
        data_or_path: Any,
        caption: str | None = None,
        convert_to_3d_and_optimize: bool = True,
        mmff_optimize_molecule_max_iterations: int = 200,
    ) -> Molecule:
        """Return a molecule of RDKit, or of a .mol or .sdf file that RDKit reads, as PDB.

        Raises:
            Error: RDKit is not installed. ValueError: RDKit can't read it. TypeError: It is neither.
        """
        chem = _rdkit("rdkit.Chem")
        molecule = data_or_path
        if isinstance(data_or_path, (str, Path)):
            molecule = cls._read_by_rdkit(chem, Path(data_or_path))
        elif not isinstance(data_or_path, chem.rdchem.Mol):
            raise TypeError("Data must be file name or an rdkit.Chem.rdchem.Mol object")
        if convert_to_3d_and_optimize:
            all_chem = _rdkit("rdkit.Chem.AllChem")
            molecule = chem.AddHs(molecule)
            all_chem.EmbedMolecule(molecule)
            all_chem.MMFFOptimizeMolecule(molecule, maxIters=mmff_optimize_molecule_max_iterations)
        return cls._of_text(chem.rdmolfiles.MolToPDBBlock(molecule), caption)

    @classmethod
    def from_smiles(
        cls,
        data: str,
        caption: str | None = None,
        sanitize: bool = True,
        convert_to_3d_and_optimize: bool = True,
        mmff_optimize_molecule_max_iterations: int = 200,
    ) -> Molecule:
        """Return the molecule of a SMILES string. Error: RDKit is not installed; ValueError: it is none."""
        molecule = _rdkit("rdkit.Chem").MolFromSmiles(data, sanitize=sanitize)
        if molecule is None:
            raise ValueError("Unable to parse the SMILES string.")
        return cls.from_rdkit(
            molecule, caption, convert_to_3d_and_optimize, mmff_optimize_molecule_max_iterations
        )

    @classmethod
    def describe_list(cls, items: Sequence[Molecule], jsons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the form of lists."""
        return {
            "_type": cls.LIST_TYPE,
            "filenames": [json["path"] for json in jsons],
            "count": len(items),
            "captions": all_captions(items),
        }

    @classmethod
    def _read_by_rdkit(cls, chem: Any, path: Path) -> Any:
        kind = path.suffix[1:]
        if kind not in cls.SUPPORTED_RDKIT_TYPES:
            known = ", ".join(sorted(cls.SUPPORTED_RDKIT_TYPES))
            raise ValueError(f"Molecule.from_rdkit only supports files of the type: {known}")
        if kind == "sdf":
            with chem.SDMolSupplier(str(path)) as supplier:
                molecule = next(supplier, None)  # only the first molecule
        else:
            molecule = chem.MolFromMolFile(str(path))
        if molecule is None:
            raise ValueError(f"RDKit can't read a molecule from {path}")
        return molecule

    @classmethod
    def _of_text(cls, pdb: str, caption: str | None) -> Molecule:
        import io

        return cls(io.StringIO(pdb), caption, file_type="pdb")


def _rdkit(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Error(f"runfold.Molecule of RDKit's data needs rdkit ({error}): pip install rdkit") from error
