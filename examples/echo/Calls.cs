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

        var task = Header(request, "x-fc-async-task-id") is { Length: > 0 } id ? id : RequestId(request);
        var line = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{task} {Attempt(request)}\n"));
        lock (CountFileLock)
        {
            using var file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite, 0);
            file.Write(line);
        }
    }

    private static string Header(HttpRequest request, string name) => request.Headers[name].ToString();
}
