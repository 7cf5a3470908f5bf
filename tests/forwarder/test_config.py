"""The configuration: what is wrong is named."""

from __future__ import annotations

import pytest

from forwarder import config
from forwarder.config import example as config_example
from forwarder.errors import ConfigError

GOOD = '[archive]\napi = "https://a.example"\n[spool]\nfolder = "/tmp/spool"\n'


def test_the_example_is_complete_and_valid():
    text = config_example.example()
    parsed = config.parse(text)
    assert parsed.dicom.port == 11112
    names = config_example.keys()
    for name in names:
        last = name.rsplit(".", 1)[1]
        assert f"{last} = " in text, name


def test_every_commented_default_in_the_example_is_the_default():
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line and "[[" not in line else line
        for line in config_example.example().split("# [[")[0].splitlines()
    )
    assert config.parse(uncommented) == config.parse(config_example.example())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[archive]\nx = 1\n", "archive.x"),
        ("colour = 1\n", "colour"),
        ("", "archive.api"),
        ('[archive]\napi = "ftp://x"\n', "archive.api"),
        (GOOD + "[dicom]\nport = 70000\n", "dicom.port"),
        (GOOD + '[dicom]\nport = "104"\n', "dicom.port"),
        (GOOD + "[dicom]\nport = true\n", "dicom.port"),
        (GOOD + '[dicom]\nae_title = "SEVENTEEN CHARACT"\n', "dicom.ae_title"),
        (GOOD + '[dicom]\nallowed_callers = "PACS"\n', "dicom.allowed_callers"),
        (GOOD + "[dicom]\nallowed_callers = [1]\n", "dicom.allowed_callers[0]"),
        (GOOD + "[dicom.tls]\nport = 2762\n", "dicom.tls.certificate"),
        (GOOD + "[dicom]\nport = 0\n", "dicom.port"),
        (GOOD + '[hl7]\nallowed_addresses = ["10.1.2.3.4"]\n', "hl7.allowed_addresses[0]"),
        (GOOD + '[hl7]\naccession_fields = ["18"]\n', "hl7.accession_fields[0]"),
        (GOOD + '[hl7]\ncharset = "latin1"\n', "hl7.charset"),
        (GOOD + "[hl7.tls]\nport = 2576\n", "hl7.tls.certificate"),
        (GOOD + '[watch]\nafter = "burn"\n', "watch.after"),
        (GOOD + '[[peers]]\nae_title = "X"\n', "peers[0].host"),
        (GOOD + '[[send.limits]]\nstart = "25h"\nend = "10:00"\nmbit = 1.0\n', "send.limits[0].start"),
        (GOOD + "send = 3\n", "send"),
        (GOOD + '[[send.limits]]\nstart = "²:00"\nend = "10:00"\nmbit = 1.0\n', "send.limits[0].start"),
        (GOOD + '[[send.limits]]\nstart = "24:30"\nend = "10:00"\nmbit = 1.0\n', "send.limits[0].start"),
        (GOOD + '[[send.limits]]\nstart = "08:00"\nend = "10:00"\nmbit = 0.01\n', "send.limits[0].mbit"),
        (GOOD + '[dicom]\nallowed_callers = ["SEVENTEEN CHARACT"]\n', "dicom.allowed_callers[0]"),
        (GOOD.replace("/tmp/spool", ""), "spool.folder"),
        (GOOD.replace("[spool]", 'proxy = "proxy:3128"\n[spool]'), "archive.proxy"),
        (GOOD + '[watch]\nfolder = "/tmp/spool"\n', "watch.folder"),
        (GOOD + '[watch]\nfolder = "/tmp/spool/incoming"\n', "watch.folder"),
        (GOOD + '[watch]\nfolder = "/tmp"\n', "watch.folder"),
        (GOOD + "[send]\nlossless = 1\n", "send.lossless"),
        ('archive = "x"\n', "archive"),
        (GOOD + "[archive]\n", "TOML"),
        (GOOD.replace("[spool]", 'ca_file = "/does/not/exist"\n[spool]'), "archive.ca_file"),
    ],
)
def test_what_is_wrong_is_named(text, named):
    with pytest.raises(ConfigError, match=named.replace("[", r"\[").replace(".", r"\.")):
        config.parse(text)


def test_a_site_file_beside_the_configuration_is_laid_over_it(tmp_path):
    file, site = tmp_path / "forwarder.toml", tmp_path / "site.toml"
    file.write_text(GOOD + '[dicom]\nae_title = "A"\nallowed_callers = ["X", "Y"]\n[dicom.tls]\nport = 0\n')
    assert config.load(file).dicom.allowed_callers == ["X", "Y"]
    site.write_text('[dicom]\nallowed_callers = ["Z"]\n[send]\nparallel = 3\n[[peers]]\nae_title = "P"\nhost = "h"\nport = 104\n')
    loaded = config.load(file)
    assert loaded.dicom.ae_title == "A"  # tables merge
    assert loaded.dicom.allowed_callers == ["Z"]  # lists are replaced
    assert (loaded.send.parallel, loaded.peers[0].ae_title) == (3, "P")
    site.write_text("[dicom]\ncolour = 1\n")
    with pytest.raises(ConfigError, match=r"dicom\.colour"):
        config.load(file)
    site.write_text("[dicom\n")
    with pytest.raises(ConfigError, match=r"site\.toml"):
        config.load(file)


def test_a_whole_number_will_do_where_a_fraction_may_stand():
    assert config.parse(GOOD + "[send]\nlinger_seconds = 1\n").send.linger_seconds == 1.0


def test_a_dotted_key_that_does_not_exist_is_refused_by_the_example_too():
    with pytest.raises(ConfigError, match=r"send\.colour"):
        config_example.example({"send.colour": "red"})
