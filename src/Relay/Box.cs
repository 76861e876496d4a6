using System.Text.Json;

namespace GpuTasks.Relay;

/// <summary>The folder shared with the agent: where each thing stands, and how it is written so that it survives a power cut.</summary>
internal sealed class Box(string root)
{
    // ENOSPC and EDQUOT, which is what the runtime puts into HResult.
    private const int NoSpace = 28;
    private const int QuotaReached = 122;
    private static readonly TimeSpan RoomCheckPeriod = TimeSpan.FromMilliseconds(500);

    internal string Root { get; } = root;

    internal string ConfigPath => Path.Combine(Root, "config.json");

    internal string SocketPath => Path.Combine(Root, "relay.sock");

    internal string StatusPath => Path.Combine(Root, "status.json");

    internal string JournalPath => Path.Combine(Root, "journal");

    internal string RunsPath => Path.Combine(Root, "runs");

    internal string LogsPath => Path.Combine(Root, "logs");

    internal string RunPath(string runId) => Path.Combine(RunsPath, runId);

    /// <summary>Throws when the agent has not put a readable configuration there.</summary>
    internal RelayConfig ReadConfig()
    {
        var config = JsonSerializer.Deserialize(File.ReadAllBytes(ConfigPath), Json.Default.RelayConfig)
            ?? throw new InvalidDataException($"{ConfigPath} says null.");
        return config.Protocol >= 1 ? config : throw new InvalidDataException($"{ConfigPath} has protocol {config.Protocol}; this relay speaks 1.");
    }

    /// <summary>
    /// Writes a file in place: a reader may meet half of it, which is no document and counts as none. Not by way of an empty file,
    /// since what is written to one that was emptied goes to the disk at once on some file systems.
    /// </summary>
    internal static void Overwrite(string path, ReadOnlySpan<byte> content)
    {
        using var file = Reuse(path);
        RandomAccess.Write(file, content, 0);
        RandomAccess.SetLength(file, content.Length);
    }

    /// <summary>The new content is whole or not there at all, whatever happens meanwhile.</summary>
    internal static void WriteDurably(string path, ReadOnlySpan<byte> content)
    {
        var draft = path + ".tmp";
        using (var file = Create(draft))
        {
            RandomAccess.Write(file, content, 0);
            RandomAccess.FlushToDisk(file);
        }

        File.Move(draft, path, overwrite: true);
        Sync(Path.GetDirectoryName(path)!);
    }

    /// <summary>A file with what an earlier run left in it; whoever writes it sets its length in the end.</summary>
    internal static Microsoft.Win32.SafeHandles.SafeFileHandle Reuse(string path) =>
        File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);

    internal static Microsoft.Win32.SafeHandles.SafeFileHandle Create(string path) =>
        File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);

    /// <summary>
    /// Writes, and on a full disk waits until there is room: the function has given its answer, and a disk that others filled
    /// must not cost it. Its limit, a cancel or a stop ends the wait with the run.
    /// </summary>
    internal static async ValueTask WriteOnceThereIsRoomAsync(
        Microsoft.Win32.SafeHandles.SafeFileHandle file, ReadOnlyMemory<byte> content, long offset, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                RandomAccess.Write(file, content.Span, offset);
                return;
            }
            catch (IOException e) when (e.HResult is NoSpace or QuotaReached)
            {
                await Task.Delay(RoomCheckPeriod, cancellationToken);
            }
        }
    }

    /// <summary>Makes a file or a folder durable. A file's name is so only when its folder is synced too.</summary>
    internal static void Sync(string path)
    {
        var descriptor = Native.Open(path, Native.OpenReadOnly | Native.OpenCloseOnExec, 0);
        if (descriptor < 0)
        {
            throw new IOException($"Cannot open {path}.");
        }

        var failed = Native.Sync(descriptor) != 0;
        _ = Native.Close(descriptor);
        if (failed)
        {
            throw new IOException($"Cannot sync {path}.");
        }
    }
}
