"""What moves a run: transitions, claims, and the services that act without being asked."""
