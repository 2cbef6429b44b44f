"""The administrator's side: fleets, boards and enrolment."""
