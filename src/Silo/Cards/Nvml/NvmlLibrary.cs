using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text;

namespace GpuTasks.Cards.Nvml;

/// <summary>Where a thread is inside the driver library, for whoever watches over it.</summary>
internal sealed class NvmlProgress
{
    /// <summary>Function that was entered last.</summary>
    public volatile string Function = "";

    /// <summary>Card it is about, as the driver counts; -1 for none.</summary>
    public volatile int Card = -1;
}

/// <summary>
/// The driver's library, loaded by path and bound symbol by symbol at first use, so that an older driver lacks single
/// values and not all. Function pointers instead of static imports: the library can be loaded anew after the driver
/// was changed under it, and several can live in one process.
/// </summary>
internal sealed unsafe class NvmlLibrary : IDisposable
{
    /// <summary>The name under which the driver installs it; the one without a number is for compilers and holds nothing.</summary>
    public const string DefaultName = "libnvidia-ml.so.1";

    [ThreadStatic]
    private static NvmlProgress? progress;

    private readonly ConcurrentDictionary<string, nint> symbols = new(StringComparer.Ordinal);
    private nint handle;

    private NvmlLibrary(nint handle) => this.handle = handle;

    /// <summary>Loads it, or says why it cannot be.</summary>
    public static NvmlLibrary? TryLoad(string path, out string fault)
    {
        try
        {
            fault = "";
            return new NvmlLibrary(NativeLibrary.Load(path));
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            fault = e is DllNotFoundException ? "not found" : "not a library for this machine";
            return null;
        }
    }

    /// <summary>Lets others see how far calls of this thread have come.</summary>
    public static void Watch(NvmlProgress? watched) => progress = watched;

    /// <summary>Text up to its zero.</summary>
    public static string Text(ReadOnlySpan<byte> bytes)
    {
        var end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }

    /// <summary>To be called only when no thread can be inside any more.</summary>
    public void Dispose()
    {
        var old = Interlocked.Exchange(ref handle, 0);
        if (old != 0)
        {
            NativeLibrary.Free(old);
        }
    }

    public bool Has(string symbol) => Find(symbol) != 0;

    public NvmlReturn Init() => Call("nvmlInit_v2");

    public NvmlReturn Shutdown() => Call("nvmlShutdown");

    public NvmlReturn GetDriverVersion(out string version)
    {
        var bytes = stackalloc byte[80];
        var symbol = Find("nvmlSystemGetDriverVersion");
        var code = symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<byte*, uint, NvmlReturn>)symbol)(bytes, 80);
        version = code == NvmlReturn.Success ? Text(new ReadOnlySpan<byte>(bytes, 80)) : "";
        return code;
    }

    public NvmlReturn GetCudaVersion(out int version)
    {
        version = 0;
        var symbol = Find("nvmlSystemGetCudaDriverVersion_v2");
        fixed (int* p = &version)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<int*, NvmlReturn>)symbol)(p);
        }
    }

    public NvmlReturn GetCount(out uint count)
    {
        count = 0;
        var symbol = Find("nvmlDeviceGetCount_v2");
        fixed (uint* p = &count)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<uint*, NvmlReturn>)symbol)(p);
        }
    }

    public NvmlReturn GetHandle(uint index, out nint device)
    {
        device = 0;
        var symbol = Find("nvmlDeviceGetHandleByIndex_v2");
        fixed (nint* p = &device)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<uint, nint*, NvmlReturn>)symbol)(index, p);
        }
    }

    public NvmlReturn GetUuid(nint device, out string uuid) => GetText("nvmlDeviceGetUUID", device, out uuid);

    public NvmlReturn GetName(nint device, out string name) => GetText("nvmlDeviceGetName", device, out name);

    public NvmlReturn GetPciInfo(nint device, out NvmlPciInfo pci) => Get("nvmlDeviceGetPciInfo_v3", device, out pci);

    public NvmlReturn GetMemory(nint device, out NvmlMemory memory) => Get("nvmlDeviceGetMemoryInfo", device, out memory);

    public NvmlReturn GetMemoryV2(nint device, out NvmlMemoryV2 memory)
    {
        memory = new NvmlMemoryV2 { Version = NvmlMemoryV2.CurrentVersion };
        return Fill("nvmlDeviceGetMemoryInfo_v2", device, ref memory);
    }

    public NvmlReturn GetUtilization(nint device, out NvmlUtilization utilization) => Get("nvmlDeviceGetUtilizationRates", device, out utilization);

    public NvmlReturn GetPower(nint device, out uint milliwatts) => Get("nvmlDeviceGetPowerUsage", device, out milliwatts);

    public NvmlReturn GetNumaNode(nint device, out uint node) => Get("nvmlDeviceGetNumaNodeId", device, out node);

    public NvmlReturn GetMaxMigDevices(nint device, out uint count) => Get("nvmlDeviceGetMaxMigDeviceCount", device, out count);

    public NvmlReturn GetThrottleReasons(nint device, out ulong reasons) =>
        Has("nvmlDeviceGetCurrentClocksEventReasons")
            ? Get("nvmlDeviceGetCurrentClocksEventReasons", device, out reasons)
            : Get("nvmlDeviceGetCurrentClocksThrottleReasons", device, out reasons); // Its name in older drivers.

    public NvmlReturn GetSupportedEvents(nint device, out ulong types) => Get("nvmlDeviceGetSupportedEventTypes", device, out types);

    public NvmlReturn GetTemperature(nint device, out uint celsius)
    {
        celsius = 0;
        var symbol = Find("nvmlDeviceGetTemperature");
        fixed (uint* p = &celsius)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, int, uint*, NvmlReturn>)symbol)(device, 0, p);
        }
    }

    public NvmlReturn GetMigMode(nint device, out uint current)
    {
        current = 0;
        uint pending;
        var symbol = Find("nvmlDeviceGetMigMode");
        fixed (uint* p = &current)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, uint*, uint*, NvmlReturn>)symbol)(device, p, &pending);
        }
    }

    public NvmlReturn GetMigHandle(nint device, uint index, out nint part)
    {
        part = 0;
        var symbol = Find("nvmlDeviceGetMigDeviceHandleByIndex");
        fixed (nint* p = &part)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, uint, nint*, NvmlReturn>)symbol)(device, index, p);
        }
    }

    public NvmlReturn GetRemappedRows(nint device, out uint uncorrectable, out uint pending, out uint failed)
    {
        uint corrected = 0, rows = 0, waits = 0, broken = 0;
        var symbol = Find("nvmlDeviceGetRemappedRows");
        var code = symbol == 0
            ? NvmlReturn.FunctionNotFound
            : ((delegate* unmanaged<nint, uint*, uint*, uint*, uint*, NvmlReturn>)symbol)(device, &corrected, &rows, &waits, &broken);
        (uncorrectable, pending, failed) = (rows, waits, broken);
        return code;
    }

    /// <summary>Uncorrected errors since the driver was loaded.</summary>
    public NvmlReturn GetUncorrectedErrors(nint device, out ulong count)
    {
        count = 0;
        var symbol = Find("nvmlDeviceGetTotalEccErrors");
        fixed (ulong* p = &count)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, int, int, ulong*, NvmlReturn>)symbol)(device, 1, 0, p);
        }
    }

    /// <summary>What the driver itself wants done with the card.</summary>
    public NvmlReturn GetRecoveryAction(nint device, out uint action)
    {
        var value = new NvmlFieldValue { FieldId = NvmlFieldValue.RecoveryAction };
        var symbol = Find("nvmlDeviceGetFieldValues");
        var code = symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, int, NvmlFieldValue*, NvmlReturn>)symbol)(device, 1, &value);
        action = (uint)value.Value;
        return code == NvmlReturn.Success ? value.Return : code;
    }

    /// <summary>How near two cards are: 0 one board, 10 one switch, 20 several switches, 30 and more over the processor.</summary>
    public NvmlReturn GetCommonAncestor(nint one, nint other, out int level)
    {
        level = 0;
        var symbol = Find("nvmlDeviceGetTopologyCommonAncestor");
        fixed (int* p = &level)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, nint, int*, NvmlReturn>)symbol)(one, other, p);
        }
    }

    /// <summary>True when both cards reach each other over NVLink.</summary>
    public NvmlReturn GetNvLinked(nint one, nint other, out bool linked)
    {
        int status = -1;
        var symbol = Find("nvmlDeviceGetP2PStatus");
        var code = symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, nint, int, int*, NvmlReturn>)symbol)(one, other, 2, &status);
        linked = code == NvmlReturn.Success && status == 0;
        return code;
    }

    /// <summary>Processes on a card by one of the three lists: <c>Compute</c>, <c>Graphics</c>, <c>MPSCompute</c>.</summary>
    public NvmlReturn GetProcesses(string kind, nint device, out NvmlProcessInfo[] processes)
    {
        processes = [];
        var name = $"nvmlDeviceGet{kind}RunningProcesses_v3";
        var symbol = Find(name);
        if (symbol == 0)
        {
            symbol = Find($"nvmlDeviceGet{kind}RunningProcesses_v2"); // Same layout, older name.
        }

        if (symbol == 0)
        {
            return NvmlReturn.FunctionNotFound;
        }

        var room = 16u;
        // More can start between two looks; a list that never settles is as good as none.
        for (var attempt = 0; attempt < 8; attempt++)
        {
            var found = new NvmlProcessInfo[room];
            var count = room;
            NvmlReturn code;
            fixed (NvmlProcessInfo* p = found)
            {
                code = ((delegate* unmanaged<nint, uint*, NvmlProcessInfo*, NvmlReturn>)symbol)(device, &count, p);
            }

            if (code != NvmlReturn.InsufficientSize)
            {
                processes = code == NvmlReturn.Success ? found[..(int)Math.Min(count, room)] : [];
                return code;
            }

            room = Math.Clamp(count + 16, room * 2, 1u << 20);
        }

        return NvmlReturn.InsufficientSize;
    }

    public NvmlReturn CreateEventSet(out nint set)
    {
        set = 0;
        var symbol = Find("nvmlEventSetCreate");
        fixed (nint* p = &set)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint*, NvmlReturn>)symbol)(p);
        }
    }

    public NvmlReturn FreeEventSet(nint set)
    {
        var symbol = Find("nvmlEventSetFree");
        return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, NvmlReturn>)symbol)(set);
    }

    public NvmlReturn RegisterEvents(nint device, ulong types, nint set)
    {
        var symbol = Find("nvmlDeviceRegisterEvents");
        return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, ulong, nint, NvmlReturn>)symbol)(device, types, set);
    }

    /// <summary>Waits for an event; <see cref="NvmlReturn.Timeout"/> when there was none.</summary>
    public NvmlReturn WaitForEvent(nint set, TimeSpan wait, out NvmlEvent happened)
    {
        happened = default;
        var symbol = Find("nvmlEventSetWait_v2");
        fixed (NvmlEvent* p = &happened)
        {
            return symbol == 0
                ? NvmlReturn.FunctionNotFound
                : ((delegate* unmanaged<nint, NvmlEvent*, uint, NvmlReturn>)symbol)(set, p, (uint)wait.TotalMilliseconds);
        }
    }

    private NvmlReturn Call(string name)
    {
        var symbol = Find(name);
        return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<NvmlReturn>)symbol)();
    }

    private NvmlReturn GetText(string name, nint device, out string text)
    {
        var bytes = stackalloc byte[96];
        var symbol = Find(name);
        var code = symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, byte*, uint, NvmlReturn>)symbol)(device, bytes, 96);
        text = code == NvmlReturn.Success ? Text(new ReadOnlySpan<byte>(bytes, 96)) : "";
        return code;
    }

    private NvmlReturn Get<T>(string name, nint device, out T value)
        where T : unmanaged
    {
        value = default;
        return Fill(name, device, ref value);
    }

    private NvmlReturn Fill<T>(string name, nint device, ref T value)
        where T : unmanaged
    {
        var symbol = Find(name);
        fixed (T* p = &value)
        {
            return symbol == 0 ? NvmlReturn.FunctionNotFound : ((delegate* unmanaged<nint, T*, NvmlReturn>)symbol)(device, p);
        }
    }

    private nint Find(string name)
    {
        if (progress is { } watched)
        {
            watched.Function = name;
        }

        ObjectDisposedException.ThrowIf(handle == 0, this);
        return symbols.GetOrAdd(name, static (symbol, library) => NativeLibrary.TryGetExport(library, symbol, out var address) ? address : 0, handle);
    }
}
