//! Allocations: whose they are, how large, and how much of each device is taken.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use vgpu::{MAX_DEVICES, MemoryError};

use crate::arena::{Arena, Origin, Range};
use crate::context::{Context, lock};
use crate::driver::driver;
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::settings::settings;
use crate::status::Status;

/// Host memory is handed out in pages.
const PAGE_BYTES: usize = 4096;

/// All allocations.
#[derive(Default)]
pub struct Heap {
    /// What each device's memory is made of.
    arenas: [Arena; MAX_DEVICES],
    device: Mutex<DeviceTable>,
    imports: Mutex<HashMap<Origin, Opened>>,
    host: Mutex<HashMap<u64, HostBlock>>,
    /// Addresses of the memory of graphs.
    graphs: Mutex<BTreeMap<u64, GraphMemory>>,
}

#[derive(Default)]
struct DeviceTable {
    blocks: HashMap<u64, Block>,
    used: [u64; MAX_DEVICES],
}

struct Block {
    context: Handle,
    device: usize,
    bytes: u64,
    origin: Origin,
}

/// Memory of another process.
struct Opened {
    context: Handle,
    address: u64,
    num_users: usize,
}

/// Whose host memory is, and who sees it where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// The library allocated it.
    Pinned,
    /// It is the caller's own.
    Registered,
    /// The library allocated it, and calls treat it as a device's.
    Managed,
}

/// Memory that a graph has while it runs.
#[derive(Clone, Copy, Debug)]
pub struct GraphMemory {
    /// Its first byte, the same in every run.
    pub address: u64,
    bytes: u64,
    context: Handle,
    device: usize,
}

/// Host memory that devices see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostBlock {
    /// Handle of the context that asked for it.
    pub context: Handle,
    /// Its bytes.
    pub bytes: u64,
    /// Whose it is.
    pub kind: HostKind,
    /// As the caller asked.
    pub flags: u32,
}

impl DeviceTable {
    /// A device has so much left.
    fn check_room(&self, device: usize, bytes: u64) -> Result<()> {
        let used = self.used[device];
        if bytes > settings().memory_bytes.saturating_sub(used) {
            let reason = format!("{bytes} bytes beside {used} of {}", settings().memory_bytes);
            return Err(Failure::new(Status::OUT_OF_MEMORY, reason));
        }
        Ok(())
    }

    /// Notes an allocation.
    fn insert(&mut self, address: u64, block: Block) {
        self.used[block.device] += block.bytes;
        self.blocks.insert(address, block);
    }
}

impl Heap {
    /// Zeroed memory of the context's device.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` for 0 bytes, `OUT_OF_MEMORY`.
    pub fn alloc(&self, context: &Context, bytes: u64) -> Result<u64> {
        if bytes == 0 {
            return Err(Failure::argument("bytesize", "at least 1", 0));
        }
        let mut table = lock(&self.device);
        let device = context.device;
        table.check_room(device, bytes)?;
        let range = self.arenas[device].alloc(bytes)?;
        let origin = range.origin();
        let address = driver()?.memory.adopt(device, Box::new(range))?;
        table.insert(address, Block { context: context.handle, device, bytes, origin });
        Ok(address)
    }

    /// Addresses for memory that a graph allocates when it runs.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` for 0 bytes, `OUT_OF_MEMORY`.
    pub fn reserve_for_graph(&self, context: &Context, bytes: u64) -> Result<GraphMemory> {
        if bytes == 0 {
            return Err(Failure::argument("bytesize", "at least 1", 0));
        }
        let address = driver()?.memory.reserve(bytes, 1)?;
        let (context, device) = (context.handle, context.device);
        let memory = GraphMemory { address, bytes, context, device };
        lock(&self.graphs).insert(address, memory);
        Ok(memory)
    }

    /// The address was reserved for memory of a graph.
    pub fn is_of_graph(&self, address: u64) -> bool {
        lock(&self.graphs).contains_key(&address)
    }

    /// Bytes from an address to the end of the memory that a graph has there when it runs.
    pub fn graph_bytes_from(&self, address: u64) -> Option<u64> {
        let graphs = lock(&self.graphs);
        let (start, memory) = graphs.range(..=address).next_back()?;
        (start + memory.bytes).checked_sub(address).filter(|rest| *rest > 0)
    }

    /// Gives a graph's addresses memory.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` if they have it already, `OUT_OF_MEMORY`.
    pub fn alloc_for_graph(&self, memory: &GraphMemory) -> Result<()> {
        let &GraphMemory { address, bytes, context, device } = memory;
        let mut table = lock(&self.device);
        if table.blocks.contains_key(&address) {
            let reason =
                format!("memory of a graph at {address:#x} was not freed since its last run");
            return Err(Failure::new(Status::INVALID_VALUE, reason));
        }
        table.check_room(device, bytes)?;
        let range = self.arenas[device].alloc(bytes)?;
        let origin = range.origin();
        driver()?.memory.map(address, Box::new(range))?;
        table.insert(address, Block { context, device, bytes, origin });
        Ok(())
    }

    /// The device of the allocation that starts at an address.
    pub fn device_of(&self, start: u64) -> Option<usize> {
        lock(&self.device).blocks.get(&start).map(|block| block.device)
    }

    /// Where the bytes of the allocation that starts at an address are.
    pub fn origin(&self, start: u64) -> Option<Origin> {
        lock(&self.device).blocks.get(&start).map(|block| block.origin)
    }

    /// Memory of another process; opened again, it is the same.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` if it is gone, `OUT_OF_MEMORY`.
    pub fn open(&self, context: &Context, origin: Origin) -> Result<u64> {
        let mut imports = lock(&self.imports);
        if let Some(opened) = imports.get_mut(&origin) {
            opened.num_users += 1;
            return Ok(opened.address);
        }
        let import = Range::open(&origin)?;
        let address = driver()?.memory.adopt(context.device, Box::new(import))?;
        // The other process may have written all of it.
        driver()?.memory.initialise(address, origin.bytes)?;
        imports.insert(origin, Opened { context: context.handle, address, num_users: 1 });
        Ok(address)
    }

    /// One user less of memory of another process.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` unless it was opened.
    pub fn close(&self, address: u64) -> Result<()> {
        let mut imports = lock(&self.imports);
        let found = imports.iter_mut().find(|(_, opened)| opened.address == address);
        let Some((&origin, opened)) = found else {
            let expected = "memory of cuIpcOpenMemHandle";
            return Err(Failure::argument("dptr", expected, format!("{address:#x}")));
        };
        opened.num_users -= 1;
        if opened.num_users == 0 {
            imports.remove(&origin);
            driver()?.memory.free(address)?;
        }
        Ok(())
    }

    /// Gives device memory back.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` unless an allocation starts there.
    pub fn free(&self, address: u64) -> Result<()> {
        let mut table = lock(&self.device);
        let Some(block) = table.blocks.remove(&address) else {
            return Err(MemoryError::NotAllocated { address }.into());
        };
        table.used[block.device] -= block.bytes;
        Ok(driver()?.memory.free(address)?)
    }

    /// A device allocation starts at the address.
    pub fn owns(&self, address: u64) -> bool {
        lock(&self.device).blocks.contains_key(&address)
    }

    /// Handle of the context that an allocation's first byte belongs to.
    pub fn context_of(&self, start: u64) -> Option<Handle> {
        let of_device = lock(&self.device).blocks.get(&start).map(|block| block.context);
        of_device.or_else(|| lock(&self.host).get(&start).map(|block| block.context))
    }

    /// Bytes of a device that are taken.
    pub fn used(&self, device: usize) -> u64 {
        lock(&self.device).used[device]
    }

    /// Gives back all that a context has.
    pub fn release(&self, context: Handle) {
        let mut mine: Vec<u64> = Vec::new();
        {
            let table = lock(&self.device);
            mine.extend(table.blocks.iter().filter(|(_, it)| it.context == context).map(|it| it.0));
        }
        for address in mine {
            // It was in the table just now; whoever took it away meanwhile freed it.
            let _ = self.free(address);
        }
        for (_, opened) in lock(&self.imports).extract_if(|_, it| it.context == context) {
            // As above.
            let _ = driver().map(|driver| driver.memory.free(opened.address));
        }
        let mine: Vec<u64> = lock(&self.host)
            .iter()
            .filter(|(_, it)| it.context == context)
            .map(|it| *it.0)
            .collect();
        for start in mine {
            let _ = self.free_host(start, None);
        }
    }

    /// Zeroed host memory that all devices see at its own address.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` for 0 bytes, `OUT_OF_MEMORY`.
    pub fn alloc_host(
        &self,
        context: &Context,
        bytes: usize,
        kind: HostKind,
        flags: u32,
    ) -> Result<u64> {
        let layout = host_layout(bytes)?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            let reason = format!("{bytes} bytes of host memory");
            return Err(Failure::new(Status::OUT_OF_MEMORY, reason));
        }
        let block = HostBlock { context: context.handle, bytes: bytes as u64, kind, flags };
        // SAFETY: `free_host` ends the mapping before the memory goes.
        if let Err(error) = unsafe { driver()?.memory.map_host(start, bytes as u64) } {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(start, layout) };
            return Err(error.into());
        }
        lock(&self.host).insert(start as u64, block);
        Ok(start as u64)
    }

    /// Lets devices see host memory of the caller.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE` for none, `HOST_MEMORY_ALREADY_REGISTERED`.
    ///
    /// # Safety
    ///
    /// The memory stays valid until it is unregistered.
    pub unsafe fn register(
        &self,
        context: &Context,
        start: *mut u8,
        bytes: usize,
        flags: u32,
    ) -> Result<()> {
        if start.is_null() || bytes == 0 {
            return Err(Failure::argument("p", "memory", format!("{bytes} bytes at {start:p}")));
        }
        // SAFETY: the caller's.
        unsafe { driver()?.memory.map_host(start, bytes as u64) }.map_err(|error| {
            Failure::new(Status::HOST_MEMORY_ALREADY_REGISTERED, error.to_string())
        })?;
        let kind = HostKind::Registered;
        let block = HostBlock { context: context.handle, bytes: bytes as u64, kind, flags };
        lock(&self.host).insert(start as u64, block);
        Ok(())
    }

    /// The host memory that starts at an address.
    pub fn host_block(&self, start: u64) -> Option<HostBlock> {
        lock(&self.host).get(&start).copied()
    }

    /// Ends host memory; `kind` says which it must be, if that matters.
    ///
    /// # Errors
    ///
    /// `INVALID_VALUE`, `HOST_MEMORY_NOT_REGISTERED`.
    pub fn free_host(&self, start: u64, kind: Option<HostKind>) -> Result<()> {
        let mut host = lock(&self.host);
        let block = host.get(&start).copied();
        let Some(block) = block.filter(|it| kind.is_none_or(|kind| kind == it.kind)) else {
            let status = match kind {
                Some(HostKind::Registered) => Status::HOST_MEMORY_NOT_REGISTERED,
                _ => Status::INVALID_VALUE,
            };
            return Err(Failure::new(status, format!("no host memory starts at {start:#x}")));
        };
        host.remove(&start);
        driver()?.memory.free(start)?;
        if block.kind != HostKind::Registered {
            // SAFETY: `alloc_host` allocated it with this layout, and it left the table just now.
            unsafe { dealloc(start as *mut u8, host_layout(block.bytes as usize)?) };
        }
        Ok(())
    }
}

fn host_layout(bytes: usize) -> Result<Layout> {
    let refuse = || Failure::argument("bytesize", "a size that can be had", bytes);
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).map_err(|_| refuse())?;
    if bytes == 0 { Err(refuse()) } else { Ok(layout) }
}
