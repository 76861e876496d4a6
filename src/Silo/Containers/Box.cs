using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using GpuTasks.Nodes;
using Microsoft.Win32.SafeHandles;

namespace GpuTasks.Containers;

/// <summary>
/// The folder an instance shares with its container. The function may put anything there, so every step of a path
/// is opened without following links, nothing but plain files is read, and every read has a limit.
/// </summary>
internal sealed partial class Box(string path)
{
    private const int DocumentLimit = 4 << 20;
    private const int EntryLimit = 4_096;
    private const int JournalLimit = 16 << 20;

    /// <summary>Path on the host, for the bind.</summary>
    public string Path => path;

    /// <summary>The relay's last status document, or null if there is none that can be read.</summary>
    public RelayStatus? ReadStatus() => ReadDocument<RelayStatus>("status.json");

    /// <summary>A run's document, or null.</summary>
    public RelayRun? ReadRun(string runId) => ReadDocument<RelayRun>("runs", runId, "state.json") is { } run && run.RunId == runId ? run : null;

    /// <summary>The ends of runs that the relay made durable most recently: what a restart of the machine may have cost the runs' own files.</summary>
    public IReadOnlyDictionary<string, RelayJournalLine> ReadJournal()
    {
        var ends = new Dictionary<string, RelayJournalLine>(StringComparer.Ordinal);
        using var file = OpenFile("journal");
        if (file is null)
        {
            return ends;
        }

        var bytes = ReadUpTo(file, JournalLimit).Bytes.AsSpan();
        foreach (var line in bytes.Split((byte)'\n'))
        {
            // The last one may have been cut off.
            if (Parse<RelayJournalLine>(bytes[line]) is { RunId: { } runId, End.Ended: true } end)
            {
                ends[runId] = end;
            }
        }

        return ends;
    }

    /// <summary>True when the order of a run was accepted durably.</summary>
    public bool HasOrder(string runId)
    {
        using var file = OpenFile("runs", runId, "order.json");
        return file is not null && LengthOf(file) > 1; // One of an earlier run holds a line end.
    }

    /// <summary>Ids of the runs that have a folder.</summary>
    public IReadOnlyList<string> ListRuns()
    {
        using var folder = OpenFolder("runs");
        return folder is null
            ? []
            : [.. NamesIn(folder).Where(name => SafeName.IsValid(name, 200)).Order(StringComparer.Ordinal)];
    }

    /// <summary>A run's answer, at most <paramref name="limit"/> bytes of it.</summary>
    /// <returns>The bytes and whether there were more; null if there is no such file.</returns>
    public (byte[] Bytes, bool Cut)? ReadResponse(string runId, int limit)
    {
        using var file = OpenFile("runs", runId, "response");
        return file is null ? null : ReadUpTo(file, limit);
    }

    /// <summary>Opens a socket of the box in a way that a link put in its place cannot divert, and that has no limit on path length.</summary>
    /// <returns>A handle whose <c>/proc/self/fd</c> path can be connected to, or null.</returns>
    public SafeFileHandle? OpenSocket(string name)
    {
        using var folder = OpenFolder();
        if (folder is null)
        {
            return null;
        }

        var handle = OpenAt(folder, name, OpenPath | NoFollow | CloseOnExec);
        return handle.IsInvalid ? null : handle;
    }

    /// <summary>The part of the log that begins at <paramref name="from"/> or, if that is no longer kept, at the first byte after it.</summary>
    /// <param name="from">Offset in the instance's log.</param>
    /// <param name="to">Offset to stop before.</param>
    /// <param name="limit">Most bytes to read.</param>
    /// <returns>Offset of the first byte, and the bytes.</returns>
    public (long Start, byte[] Bytes) ReadLog(long from, long to, int limit)
    {
        using var folder = OpenFolder("logs");
        if (folder is null || to <= from)
        {
            return (from, []);
        }

        var starts = NamesIn(folder)
            .Where(name => name.Length == 24 && name.EndsWith(".log", StringComparison.Ordinal))
            .Select(name => long.TryParse(name.AsSpan(0, 20), NumberStyles.None, CultureInfo.InvariantCulture, out var start) ? start : -1)
            .Where(start => start >= 0 && start < to)
            .Order()
            .ToList();
        using var bytes = new MemoryStream();
        var position = from;
        long? first = null;
        for (var i = 0; i < starts.Count && bytes.Length < limit && position < to; i++)
        {
            if (i + 1 < starts.Count && starts[i + 1] <= position)
            {
                continue;
            }

            using var file = OpenFileIn(folder, string.Create(CultureInfo.InvariantCulture, $"{starts[i]:D20}.log"));
            if (file is null)
            {
                continue;
            }

            position = Math.Max(position, starts[i]);
            if (first is not null && position != first + bytes.Length)
            {
                break; // A gap inside the range: the next read starts behind it and counts it as dropped.
            }

            first ??= position;
            var end = i + 1 < starts.Count ? Math.Min(to, starts[i + 1]) : to;
            var want = (int)Math.Min(limit - bytes.Length, end - position);
            var buffer = new byte[want];
            var got = ReadAt(file, buffer, position - starts[i]);
            bytes.Write(buffer, 0, got);
            position += got;
            if (got < want)
            {
                if (bytes.Length == 0)
                {
                    first = null;
                    continue;
                }

                break;
            }
        }

        return (first ?? from, bytes.ToArray());
    }

    private static int ReadAt(SafeFileHandle file, Span<byte> buffer, long offset)
    {
        var total = 0;
        try
        {
            while (total < buffer.Length)
            {
                var got = RandomAccess.Read(file, buffer[total..], offset + total);
                if (got == 0)
                {
                    break;
                }

                total += got;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            // Not a plain file: what was read so far is all there is.
        }

        return total;
    }

    private static (byte[] Bytes, bool Cut) ReadUpTo(SafeFileHandle file, int limit)
    {
        var length = LengthOf(file);
        var buffer = new byte[Math.Min(length, limit)];
        var got = ReadAt(file, buffer, 0);
        return (got == buffer.Length ? buffer : buffer[..got], length > limit);
    }

    /// <summary>0 for what is not a plain file.</summary>
    private static long LengthOf(SafeFileHandle file)
    {
        try
        {
            return RandomAccess.GetLength(file);
        }
        catch (Exception e) when (e is IOException or NotSupportedException)
        {
            return 0;
        }
    }

    private T? ReadDocument<T>(params ReadOnlySpan<string> steps)
        where T : class
    {
        using var file = OpenFile(steps);
        if (file is null)
        {
            return null;
        }

        var (bytes, cut) = ReadUpTo(file, DocumentLimit);
        return cut ? null : Parse<T>(bytes);
    }

    /// <summary>Reads a document of the tenant's; one that is none counts as missing.</summary>
    public static T? Parse<T>(ReadOnlySpan<byte> bytes)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize<T>(bytes, RelayJson.Options);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static IEnumerable<string> NamesIn(SafeFileHandle folder) =>
        Directory.EnumerateFileSystemEntries($"/proc/self/fd/{folder.DangerousGetHandle()}")
            .Select(entry => System.IO.Path.GetFileName(entry)!)
            .Take(EntryLimit);

    private SafeFileHandle? OpenFolder(params ReadOnlySpan<string> steps)
    {
        var folder = OpenAt(null, path, ReadOnly | FolderOnly | NoFollow | CloseOnExec);
        foreach (var step in steps)
        {
            if (folder.IsInvalid)
            {
                break;
            }

            var next = OpenAt(folder, step, ReadOnly | FolderOnly | NoFollow | CloseOnExec);
            folder.Dispose();
            folder = next;
        }

        if (!folder.IsInvalid)
        {
            return folder;
        }

        folder.Dispose();
        return null;
    }

    private SafeFileHandle? OpenFile(params ReadOnlySpan<string> steps)
    {
        using var folder = OpenFolder(steps[..^1]);
        return folder is null ? null : OpenFileIn(folder, steps[^1]);
    }

    private static SafeFileHandle? OpenFileIn(SafeFileHandle folder, string name)
    {
        // Without NonBlocking, a pipe put there would hold the opener for ever.
        var file = OpenAt(folder, name, ReadOnly | NoFollow | NonBlocking | CloseOnExec);
        if (!file.IsInvalid)
        {
            return file;
        }

        file.Dispose();
        return null;
    }

    private static SafeFileHandle OpenAt(SafeFileHandle? folder, string name, int flags)
    {
        if (folder is null)
        {
            return NativeOpenAt(CurrentFolder, name, flags);
        }

        var held = false;
        try
        {
            folder.DangerousAddRef(ref held);
            return NativeOpenAt((int)folder.DangerousGetHandle(), name, flags);
        }
        finally
        {
            if (held)
            {
                folder.DangerousRelease();
            }
        }
    }

    // Values of Linux on x86-64 and, but for FolderOnly and NoFollow, on every architecture.
    private const int CurrentFolder = -100;
    private const int ReadOnly = 0;
    private const int NonBlocking = 0x800;
    private const int CloseOnExec = 0x80000;
    private const int OpenPath = 0x200000;
    private static readonly int FolderOnly = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x4000 : 0x10000;
    private static readonly int NoFollow = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x8000 : 0x20000;

    [LibraryImport("libc", EntryPoint = "openat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    private static partial SafeFileHandle NativeOpenAt(int folder, string name, int flags);
}
