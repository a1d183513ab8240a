//! Frames kept for reuse, so that a steady exchange allocates nothing.

/// Empty vectors with capacity.
#[derive(Default)]
pub(in crate::comm) struct FramePool {
    frames: Vec<Vec<u8>>,
}

impl FramePool {
    const MAX_FRAMES: usize = 64;

    /// Returns an empty frame.
    pub(in crate::comm) fn take(&mut self) -> Vec<u8> {
        self.frames.pop().unwrap_or_default()
    }

    /// Keeps a frame that is done with.
    pub(in crate::comm) fn put_back(&mut self, mut frame: Vec<u8>) {
        if self.frames.len() < Self::MAX_FRAMES {
            frame.clear();
            self.frames.push(frame);
        }
    }
}
