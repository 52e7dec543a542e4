"""Code shared by several tasks: labelled texts, probes, ablation, questions, revisions of data sets."""
