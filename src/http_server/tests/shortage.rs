//! Connections that cannot be accepted because no file descriptor is free.

use super::*;

/// The listener of an event stream.
fn listener(server: &TestServer) -> Client<TcpStream> {
    let mut client = server.client();
    assert_eq!(client.send("GET /events HTTP/1.1\r\n\r\n").head().0, 200);
    client
}

#[test]
fn a_shortage_of_the_whole_system_closes_no_event_stream() {
    let server = TestServer::new();
    let (mut events, mut idle) = (listener(&server), server.client());
    assert_eq!(idle.get("/inline").0, 200);
    *server.failures.lock() = vec![Errno::NFILE; 4];
    assert_eq!(server.client().get("/inline").0, 200);
    assert!(server.failures.lock().is_empty());
    assert!(idle.is_closed());
    server.handler.events.publish("x", "1");
    assert_eq!(events.chunk(), "event: x\ndata: 1\n\n");
}

#[test]
fn a_shortage_closes_one_connection_at_a_time() {
    let server = TestServer::new();
    let mut idle: Vec<_> = (0..4).map(|_| server.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/inline").0, 200);
    }
    for error in [Errno::MFILE, Errno::NFILE] {
        server.failures.lock().push(error);
        assert_eq!(server.client().get("/inline").0, 200);
        assert!(idle.remove(0).is_closed());
    }
    assert!(idle.iter_mut().all(|client| client.get("/inline").0 == 200));
}

#[test]
fn a_process_without_a_free_descriptor_closes_a_stream_for_a_new_client() {
    let server = TestServer::new();
    let mut events = listener(&server);
    server.failures.lock().push(Errno::MFILE);
    assert_eq!(server.client().get("/inline").0, 200);
    assert!(events.is_closed());
}

/// The loop used to sleep meanwhile.
#[test]
fn connections_are_served_while_none_can_be_accepted() {
    let server = TestServer::new();
    let mut events = listener(&server);
    *server.failures.lock() = vec![Errno::NFILE; 1_000_000];
    let mut waiting = server.client();
    waiting.send("GET /inline HTTP/1.1\r\n\r\n");
    server.handler.events.publish("x", "1");
    assert_eq!(events.chunk(), "event: x\ndata: 1\n\n");
    server.failures.lock().clear();
    assert_eq!(waiting.answer().0, 200);
}
