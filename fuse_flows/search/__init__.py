"""The basin-hopping engine as a pure state machine: propose, judge, stop. It knows nothing of jobs or databases."""
