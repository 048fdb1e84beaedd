"""The parts that ``homo_refine`` and ``local_refine`` share: settings, trainer, the run, advice at its start and end."""
