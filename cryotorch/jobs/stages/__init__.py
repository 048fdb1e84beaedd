"""What jobs share that go on from stage to stage: checkpoints, several processes, TensorBoard while they run."""
