"""What a person looks at: figures, TensorBoard, logs and output files, all made from one ``IterationResult``.

Imports ``results``, ``particles``, ``ops`` and ``data``; the only folder that knows matplotlib.
"""
