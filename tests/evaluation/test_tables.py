import numpy as np
import pandas as pd
import pytest

from mtinet.errors import UserError
from mtinet.evaluation.tables import check_tables, dominant_lesions, is_found, read_table


def test_csv_round_trip(make_tables, phases, classes, tmp_path) -> None:
    studies, lesions = make_tables(sites=("NA", "007"), fragments=1)
    for name, table in (("studies", studies), ("lesions", lesions)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    written = check_tables(studies, lesions, phases, classes)
    read = check_tables(
        read_table(tmp_path / "studies.csv"), read_table(tmp_path / "lesions.csv"), phases, classes
    )
    for before, after in zip(written, read):
        pd.testing.assert_frame_equal(before, after, check_dtype=False)
    assert set(read[0]["site"]) == {"NA", "007"}
    assert len(dominant_lesions(read[1])) == 40
    assert is_found(read[1]).sum() == 38


def test_an_empty_dominant_means_no(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("study_id,dominant,diameter_mm\n007,True,3\n008,,\n")
    table = read_table(tmp_path / "t.csv")
    assert table["dominant"].tolist() == [True, False]
    assert np.isnan(table["diameter_mm"][1])


def test_every_fault_is_listed(make_tables, phases, classes) -> None:
    studies, lesions = make_tables()
    studies.loc[1, "study_id"] = studies.loc[0, "study_id"]
    studies.loc[2, "outcome"] = "fine"
    lesions.loc[3, "label"] = "hpc"
    lesions.loc[5, "p_hcc"] = 3.0
    lesions.loc[7, "patient_id"] = "somebody"
    lesions = pd.concat([lesions, lesions.iloc[[6]]])
    with pytest.raises(UserError) as error:
        check_tables(studies, lesions, phases, classes)
    for part in ("000", "fine", "hpc", "001", "sum to 1", "more than one dominant", "another patient_id"):
        assert part in str(error.value)


def test_missing_columns_and_text(make_tables, phases, classes, tmp_path) -> None:
    studies, lesions = make_tables()
    with pytest.raises(UserError, match=r"lack the column outcome.*lack the column reference"):
        check_tables(studies.drop(columns="outcome"), lesions.drop(columns="reference"), phases, classes)
    with pytest.raises(UserError, match="hold text in the column dice"):
        check_tables(studies.assign(dice="high"), lesions, phases, classes)
    with pytest.raises(UserError, match="no study"):
        check_tables(studies.iloc[:0], lesions.iloc[:0], phases, classes)
    with pytest.raises(UserError, match="column dominant"):
        check_tables(studies, lesions.assign(dominant="perhaps"), phases, classes)
    with pytest.raises(UserError, match=r"nowhere.csv cannot be read"):
        read_table(tmp_path / "nowhere.csv")
