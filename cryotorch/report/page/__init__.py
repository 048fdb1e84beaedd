"""``report.html``: a run as one page without network, made from the files of its folder alone, so that killed runs have one too."""
