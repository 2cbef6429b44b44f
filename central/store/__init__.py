"""The server's database: tables, numbered migrations, and how it is opened."""
