"""One execution of a task's body, in whichever process."""
