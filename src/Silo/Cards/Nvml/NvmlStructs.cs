using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace GpuTasks.Cards.Nvml;

// The library's own layouts, named after its header. A test holds their sizes.
#pragma warning disable CS0649 // The library fills them.

/// <summary>24 bytes; used includes what the driver reserves.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmlMemory
{
    public ulong Total;
    public ulong Free;
    public ulong Used;
}

/// <summary>40 bytes; used leaves out what the driver reserves.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmlMemoryV2
{
    public const uint CurrentVersion = 40 | (2u << 24);
    public uint Version;
    public ulong Total;
    public ulong Reserved;
    public ulong Free;
    public ulong Used;
}

/// <summary>8 bytes, per cent of the time.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmlUtilization
{
    public uint Gpu;
    public uint Memory;
}

[InlineArray(16)]
internal struct NvmlBytes16
{
    public byte First;
}

[InlineArray(32)]
internal struct NvmlBytes32
{
    public byte First;
}

/// <summary>68 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmlPciInfo
{
    public NvmlBytes16 LegacyBusId;
    public uint Domain;
    public uint Bus;
    public uint Device;
    public uint DeviceId;
    public uint SubSystemId;
    public NvmlBytes32 BusId;
}

/// <summary>24 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmlProcessInfo
{
    public const ulong Unknown = ulong.MaxValue;
    public uint Pid;
    public ulong UsedMemory;
    public uint GpuInstance;
    public uint ComputeInstance;
}

/// <summary>40 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmlFieldValue
{
    public const uint RecoveryAction = 230;
    public uint FieldId;
    public uint ScopeId;
    public long Timestamp;
    public long LatencyMicroseconds;
    public uint ValueType;
    public NvmlReturn Return;
    public ulong Value;
}

/// <summary>32 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NvmlEvent
{
    public const ulong Xid = 8;
    public const ulong DoubleBitEcc = 2;
    public const ulong RecoveryActionChanged = 0x8000;
    public nint Device;
    public ulong Type;
    public ulong Data;
    public uint GpuInstance;
    public uint ComputeInstance;
}
#pragma warning restore CS0649
