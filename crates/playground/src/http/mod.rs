//! The HTTPS shell around the store: sockets, TLS and streams, and no decision about the API.
