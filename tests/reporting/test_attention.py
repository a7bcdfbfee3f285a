"""Charts of weights."""

import pandas as pd
import pytest

from mtinet.reporting.attention import attention_pictures


@pytest.mark.parametrize(("fusion", "name"), [("mdief", "MdIEF"), ("attention", "Attention fusion")])
def test_the_chart_of_fusion_weights_bears_the_fusions_name(fusion, name):
    found = pd.DataFrame({"label": ["hcc", "fnh"], "fusion_pre": [0.4, 0.5], "attention_pre": [1.0, 1.0]})
    alts = [picture.alt for picture in attention_pictures(found, ("pre",), fusion)]
    assert any(alt.startswith(f"{name}: weight of the high-frequency map") for alt in alts)
