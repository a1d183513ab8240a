//! Ranks as processes under MPI; those of one machine share memory.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::control::CONTROL_BYTES;
use super::engine::Engine;
use super::rank::{Neighbours, Rank, RankParts, Ticket};
use super::segment::Segment;
use super::transport::MpiTransport;
use super::world::{World, WorldOptions};
use crate::error::{Error, Result};

const OP: &str = "World::mpi";

/// The processes of a node, reached through /proc.
struct ProcessNeighbours {
    /// Each local peer's process; `None` for other nodes, this rank, and where the kernel lacks
    /// pidfds (a death is then seen by the timeout).
    pidfds: Vec<Option<OwnedFd>>,
}

impl Neighbours for ProcessNeighbours {
    fn allocate(&self, op: &'static str, num_bytes: usize) -> Result<Segment> {
        Segment::in_memfd(op, "num_bytes", num_bytes)
    }

    fn offer(&self, _buffer_id: u64, segment: &Arc<Segment>) -> Result<Ticket> {
        ticket_of(segment)
    }

    fn attach(&self, _buffer_id: u64, src: usize, ticket: Ticket) -> Result<Arc<Segment>> {
        attach(src, ticket)
    }

    fn find_ended(&self, ranks: &mut dyn Iterator<Item = usize>) -> Option<usize> {
        let watched: Vec<(usize, &OwnedFd)> =
            ranks.filter_map(|rank| Some((rank, self.pidfds[rank].as_ref()?))).collect();
        // A pidfd is readable once its process has ended.
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::IN)).collect();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut fds, Some(&at_once)).ok()? == 0 {
            return None;
        }
        let ended = fds.iter().position(|fd| fd.revents().contains(PollFlags::IN))?;
        Some(watched[ended].0)
    }
}

/// Makes this process's world; see [`World::mpi`].
pub(super) fn world(options: &WorldOptions) -> Result<World> {
    let ranks_per_node = options.checked_ranks_per_node(OP)?;
    let transport = MpiTransport::new(options.timeout)?;
    let (rank_idx, num_ranks) = (transport.rank_idx, transport.num_ranks);
    let own_page = Arc::new(Segment::in_memfd(OP, "control page", CONTROL_BYTES)?);
    let mut controls = (0..num_ranks)
        .map(|_| Segment::anonymous(OP, "control page", CONTROL_BYTES).map(Arc::new))
        .collect::<Result<Vec<_>>>()?;
    controls[rank_idx] = Arc::clone(&own_page);

    // Until the ranks know who is near, each is a node of its own.
    let strangers = Rank::new(RankParts {
        rank_idx,
        node_of: (0..num_ranks).collect(),
        options: options.clone(),
        controls: controls.clone(),
        neighbours: Box::new(ProcessNeighbours { pidfds: Vec::new() }),
        engine: Engine::new(Box::new(transport), num_ranks),
    });
    let mut hello = bytemuck::bytes_of(&ticket_of(&own_page)?).to_vec();
    hello.extend_from_slice(place()?.as_bytes());
    let hellos = strangers.all_gather(OP, &hello)?;
    let hellos = hellos.iter().map(|hello| parse_hello(hello)).collect::<Result<Vec<_>>>()?;

    let places: Vec<&[u8]> = hellos.iter().map(|(_, place)| *place).collect();
    let node_of = assign_nodes(&places, ranks_per_node);
    let is_near = |peer: usize| peer != rank_idx && node_of[peer] == node_of[rank_idx];
    let mut pidfds: Vec<Option<OwnedFd>> = (0..num_ranks).map(|_| None).collect();
    let mut problem = String::new();
    for peer in (0..num_ranks).filter(|&peer| is_near(peer)) {
        let ticket = hellos[peer].0;
        pidfds[peer] = open_pidfd(ticket);
        match attach(peer, ticket) {
            Ok(page) => controls[peer] = page,
            Err(error) => problem = error.to_string(),
        }
    }
    let rank = Rank::new(RankParts {
        rank_idx,
        node_of,
        options: options.clone(),
        controls,
        neighbours: Box::new(ProcessNeighbours { pidfds }),
        engine: strangers.into_engine(),
    });
    // The keys go on where the strangers' only all-gather left them.
    rank.next_collective_key();
    let world = World::new(rank);
    let problems = world.all_gather(OP, problem.as_bytes())?;
    match problems.iter().position(|problem| !problem.is_empty()) {
        None => Ok(world),
        Some(peer) => Err(Error::Unavailable {
            op: OP,
            what: "the peers' memory",
            reason: format!("on rank {peer}: {}", String::from_utf8_lossy(&problems[peer])),
        }),
    }
}

/// Names what two processes must have in common to map each other's memory through /proc.
fn place() -> Result<String> {
    let boot_path = "/proc/sys/kernel/random/boot_id";
    let boot = fs::read_to_string(boot_path).map_err(|error| Error::io(OP, boot_path, error))?;
    let namespace_path = "/proc/self/ns/pid";
    let namespace =
        fs::read_link(namespace_path).map_err(|error| Error::io(OP, namespace_path, error))?;
    let user = rustix::process::geteuid().as_raw();
    Ok(format!("{} {} {user}", boot.trim(), namespace.display()))
}

fn parse_hello(hello: &[u8]) -> Result<(Ticket, &[u8])> {
    let (ticket, place) = hello.split_at_checked(size_of::<Ticket>()).ok_or_else(|| {
        Error::value(OP, "hello", "a ticket and a place", format!("{} bytes", hello.len()))
    })?;
    Ok((bytemuck::pod_read_unaligned(ticket), place))
}

/// Numbers nodes by their first rank: ranks at one place, in runs of `ranks_per_node`.
fn assign_nodes(places: &[&[u8]], ranks_per_node: Option<usize>) -> Vec<usize> {
    let mut nodes: Vec<(&[u8], usize)> = Vec::new();
    let assign = |rank: usize| {
        let num_before = places[..rank].iter().filter(|place| **place == places[rank]).count();
        let node = (places[rank], num_before / ranks_per_node.unwrap_or(usize::MAX));
        nodes.iter().position(|known| *known == node).unwrap_or_else(|| {
            nodes.push(node);
            nodes.len() - 1
        })
    };
    (0..places.len()).map(assign).collect()
}

fn ticket_of(segment: &Segment) -> Result<Ticket> {
    let file = segment.file().ok_or_else(|| Error::Unavailable {
        op: OP,
        what: "shared memory",
        reason: "the segment is private to this process".into(),
    })?;
    let (device, inode) = identity(file)?;
    Ok([u64::from(std::process::id()), file.as_raw_fd() as u64, device, inode])
}

fn identity(file: &OwnedFd) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file).map_err(|error| Error::io(OP, "memfd", error.into()))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Maps the memory that rank `src` described.
fn attach(src: usize, [pid, fd, device, inode]: Ticket) -> Result<Arc<Segment>> {
    let path = format!("/proc/{pid}/fd/{fd}");
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| Error::io("map a peer's memory", &path, error))?;
    let file = OwnedFd::from(file);
    if identity(&file)? != (device, inode) {
        return Err(Error::Unavailable {
            op: "map a peer's memory",
            what: "shared memory",
            reason: format!("{path} is not what rank {src} offered"),
        });
    }
    Segment::map_peer(file).map(Arc::new)
}

fn open_pidfd([pid, ..]: Ticket) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Some(fd),
        Err(error) => {
            tracing::debug!(%error, "no pidfd: the death of this peer shows by timeout");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::assign_nodes;

    #[test]
    fn ranks_of_a_machine_form_a_node_wherever_they_stand() {
        let places: [&[u8]; 6] = [b"a", b"b", b"a", b"b", b"a", b"a"];
        assert_eq!(assign_nodes(&places, None), [0, 1, 0, 1, 0, 0]);
        assert_eq!(assign_nodes(&places, Some(3)), [0, 1, 0, 1, 0, 2]);
        assert_eq!(assign_nodes(&places, Some(1)), [0, 1, 2, 3, 4, 5]);
    }
}
