"""The routes: what enters, who may, what leaves. No SQL, no files."""
