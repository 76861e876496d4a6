using System.Collections.Concurrent;
using System.Text.Json;

namespace GpuTasks.Containers;

/// <summary>Small documents of the agent's own, which are there whole or not at all.</summary>
internal static class DiskFiles
{
    /// <summary>Only the agent's user may look.</summary>
    public const UnixFileMode PrivateFolder = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    /// <summary>Everybody may write: the container's user is not known.</summary>
    public const UnixFileMode OpenFolder = PrivateFolder
        | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;

    private const int Threads = 16;
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = false };
    private static readonly Lazy<BlockingCollection<(string Path, TaskCompletionSource Done)>> Waits = new(StartThreads);

    /// <summary>Writes, syncs and renames into place.</summary>
    public static void Save<T>(string path, T document) => Write(path, document, path + ".tmp", sync: true);

    /// <summary>
    /// Writes a new document that is there for whoever reads when this returns, and survives a power cut when the task
    /// completes; until then it may be missing or unfinished afterwards. It waits for the disk on one of a few threads of
    /// its own: the thread pool has as many as there are processors, so two such waits there would hold up everything, and
    /// what waits at once the disk syncs at once.
    /// </summary>
    /// <param name="path">Where.</param>
    /// <param name="document">What.</param>
    /// <param name="from">File that becomes the document's: one that nobody needs any more, or none.</param>
    public static Task SaveSoon<T>(string path, T document, string from)
    {
        Write(path, document, from, sync: false);
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Waits.Value.Add((path, done));
        return done.Task;
    }

    private static void Write<T>(string path, T document, string temporary, bool sync)
    {
        var options = new FileStreamOptions
        {
            // Of a file that is emptied and written again some file systems write the new content to the disk when it is closed.
            Mode = FileMode.OpenOrCreate,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        };
        using (var stream = new FileStream(temporary, options))
        {
            JsonSerializer.Serialize(stream, document, Json);
            stream.SetLength(stream.Position);
            stream.Flush(flushToDisk: sync);
        }

        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Reads a document, or null if it is missing or was never finished.</summary>
    public static T? Load<T>(string path)
        where T : class
    {
        try
        {
            using var stream = File.OpenRead(path);
            return JsonSerializer.Deserialize<T>(stream, Json);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or JsonException)
        {
            return null;
        }
    }

    private static BlockingCollection<(string Path, TaskCompletionSource Done)> StartThreads()
    {
        var waits = new BlockingCollection<(string Path, TaskCompletionSource Done)>();
        for (var i = 0; i < Threads; i++)
        {
            new Thread(() =>
            {
                foreach (var (path, done) in waits.GetConsumingEnumerable())
                {
                    try
                    {
                        using (var file = File.OpenHandle(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete))
                        {
                            RandomAccess.FlushToDisk(file);
                        }

                        done.SetResult();
                    }
                    catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
                    {
                        done.SetResult(); // It has served its purpose already.
                    }
                    catch (Exception e)
                    {
                        done.SetException(e);
                    }
                }
            }) { IsBackground = true, Name = "disk" }.Start();
        }

        return waits;
    }

    /// <summary>Makes a folder with exactly this mode, whatever the umask is.</summary>
    public static void MakeFolder(string path, UnixFileMode mode)
    {
        Directory.CreateDirectory(path);
        File.SetUnixFileMode(path, mode);
    }
}
