//! A line of a work file: a task or an event.

use messaging::schema::parse_json;
use messaging::{Bytes, ContentType, Event, Message, Patterns, Result, StreamName, Subject, Task};
use messaging::{Error, ErrorKind};

/// Makes the message of a line: a task to `tasks.<type>`, an event to `events.<type>`, with the
/// line's bytes as its body.
pub(super) fn message(line: &Bytes, patterns: &Patterns) -> Result<Message> {
    if line.trim_ascii().is_empty() {
        let text = "the line is empty (accepted: a task or an event as a JSON object)";
        return Err(Error::new(ErrorKind::Undecodable, text));
    }
    let document = parse_json(line)?;
    let (stream, kind, id, priority) = if document.get("payload").is_some() {
        let task = Task::from_json(line)?;
        ("tasks", task.kind, task.id, task.priority)
    } else if document.get("data").is_some() {
        let event = Event::from_json(line)?;
        ("events", event.kind, event.id, 0)
    } else {
        let text = "neither a task nor an event (accepted: an object with payload or with data)";
        return Err(Error::new(ErrorKind::Undecodable, text));
    };
    let subject = Subject::of(&stream.parse::<StreamName>()?, &kind)?;
    if !patterns.matches(&subject) {
        let text = format!("no pattern matches {subject} (patterns: {patterns})");
        return Err(Error::new(ErrorKind::InvalidSubject, text));
    }
    Ok(Message::new(subject, line.clone())
        .with_id(id.parse()?)
        .with_priority(priority)
        .with_content_type(ContentType::Json))
}
