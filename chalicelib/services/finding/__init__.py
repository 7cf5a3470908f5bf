"""Finding studies: QIDO-RS, a patient's timeline, the priors of an exam."""
