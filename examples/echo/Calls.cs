using System.Globalization;
using System.Text;

namespace GpuTasks.Echo;

/// <summary>Who calls, for which attempt, and the record of it.</summary>
internal static class Calls
{
    private static readonly Lock CountFileLock = new();

    internal static string RequestId(HttpRequest request) => Header(request, "x-fc-request-id") is { Length: > 0 } id ? id : "none";

    /// <summary>Attempts count from 1; the platform sends the number of retries before this one.</summary>
    internal static int Attempt(HttpRequest request) =>
        int.TryParse(Header(request, "x-fc-retry-count"), NumberStyles.None, CultureInfo.InvariantCulture, out var retries) ? retries + 1 : 1;

    /// <summary>Appends one line for this run, before anything else happens, so that even a crash is counted.</summary>
    internal static void Count(HttpRequest request)
    {
        if (Settings.CountFile is not { Length: > 0 } path)
        {
            return;
        }

        Append(path, string.Create(CultureInfo.InvariantCulture, $"{TaskId(request)} {Attempt(request)}\n"));
    }

    /// <summary>
    /// Records when this run lives, by the machine's monotonic clock, so that whoever reads the files of all instances sees
    /// whether two runs of one task ever lived at once: it began, it lives (four times a second), it answered.
    /// </summary>
    internal static Trace? Follow(HttpRequest request) =>
        Settings.TraceFile is { Length: > 0 } path ? new Trace(path, TaskId(request)) : null;

    private static string TaskId(HttpRequest request) => Header(request, "x-fc-async-task-id") is { Length: > 0 } id ? id : RequestId(request);

    private static void Append(string path, string line)
    {
        lock (CountFileLock)
        {
            using var file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite, 0);
            file.Write(Encoding.UTF8.GetBytes(line));
        }
    }

    internal sealed class Trace : IDisposable
    {
        private readonly string path;
        private readonly string run;
        private readonly Timer timer;
        private int ended;

        public Trace(string path, string task)
        {
            this.path = path;
            run = Guid.NewGuid().ToString("N");
            Write("began", $" {task}");
            timer = new Timer(_ => Write("lives", ""), null, 250, 250);
        }

        public void Dispose()
        {
            if (Interlocked.Exchange(ref ended, 1) == 0)
            {
                timer.Dispose();
                Write("ended", "");
            }
        }

        private void Write(string what, string more)
        {
            try
            {
                Append(path, string.Create(CultureInfo.InvariantCulture, $"{what} {run} {Environment.TickCount64}{more}\n"));
            }
            catch (IOException)
            {
                // A full disk must not end the run that it is about.
            }
        }
    }

    private static string Header(HttpRequest request, string name) => request.Headers[name].ToString();
}
