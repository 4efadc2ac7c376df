"""The load: schedules, client, recorder, users and the Locust child.  Imported only by Locust."""
