/**
 * The device status field (virtio 1.3, 2.1): the driver's progress through initialisation, and the two
 * ways in which a device ends up broken.
 */

/** The guest has found the device. */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
/** The guest has a driver for it. */
export const VIRTIO_CONFIG_S_DRIVER = 2;
/** The driver is set up and ready. */
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
/** Feature negotiation is complete. */
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
/** The device has met something it cannot recover from: what a virtqueue violation leads to. */
export const VIRTIO_CONFIG_S_NEEDS_RESET = 64;
/** The driver has given up on the device. */
export const VIRTIO_CONFIG_S_FAILED = 128;
