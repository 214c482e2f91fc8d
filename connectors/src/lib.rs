//! Everything of Hedgerow with a socket: gateway, HTTP API, query endpoint, and serve().
