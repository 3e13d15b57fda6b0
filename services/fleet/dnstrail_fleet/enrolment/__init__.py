"""The enrolment of hosts: a user of the engine for each, and the file that invites it."""
