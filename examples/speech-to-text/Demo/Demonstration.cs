using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace GpuTasks.Demo;

/// <summary>Registers the function, submits one task for each recording and follows them to their ends.</summary>
internal static class Demonstration
{
    /// <summary>Name that the function is registered under.</summary>
    public const string FunctionName = "speech-to-text";

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan BetweenLooks = TimeSpan.FromMilliseconds(200);

    /// <summary>Runs it all.</summary>
    /// <returns>True if every transcript is what its file name says.</returns>
    public static async Task<bool> RunAsync(Gateway gateway, string image, IReadOnlyList<Recording> recordings, CancellationToken cancellationToken)
    {
        await gateway.PutFunctionAsync(FunctionName, Definition(image), cancellationToken);
        await gateway.PutAsyncConfigAsync(FunctionName, """{"asyncTask":true,"maxAsyncRetryAttempts":1}""", cancellationToken);
        Console.WriteLine($"function {FunctionName}: image {image}, one fc.gpu.tesla.1 card of 16384 MiB for each instance, task mode on");

        // Ids are for ever, so each run of the demonstration has its own.
        var run = $"run{DateTime.UtcNow.ToString("yyyyMMddHHmmss", CultureInfo.InvariantCulture)}_";
        var recordingOf = recordings.ToDictionary(recording => run + Path.GetFileNameWithoutExtension(recording.FileName));
        foreach (var (taskId, recording) in recordingOf)
        {
            await gateway.SubmitAsync(FunctionName, taskId, await File.ReadAllBytesAsync(recording.Path, cancellationToken), cancellationToken);
        }

        Console.WriteLine($"{recordings.Count} recordings submitted as tasks {run}*");
        await FollowAsync(gateway, run, recordingOf, cancellationToken);

        var rows = new List<ReportRow>();
        foreach (var (taskId, recording) in recordingOf)
        {
            rows.Add(new ReportRow(recording, await gateway.GetTaskAsync(FunctionName, taskId, cancellationToken)));
        }

        Report.Write(rows);
        return rows.TrueForAll(row => row.IsRight);
    }

    private static string Definition(string image) => JsonSerializer.Serialize(new
    {
        functionName = FunctionName,
        description = "Offline speech recognition (pocketsphinx)",
        runtime = "custom-container",
        handler = "index.handler",
        cpu = 1,
        memorySize = 1024,
        gpuConfig = new { gpuType = "fc.gpu.tesla.1", gpuMemorySize = 16384 },
        timeout = 60,
        idleTimeout = 30,
        internetAccess = false,
        environmentVariables = new { GRAMMAR = "#JSGF V1.0;\ngrammar speakers;\npublic <place> = (front | rear | side | left | right | center)+;" },
        customContainerConfig = new
        {
            image,
            port = 9000,
            healthCheckConfig = new { httpGetUrl = "/ready", initialDelaySeconds = 0, periodSeconds = 1, timeoutSeconds = 1, failureThreshold = 60, successThreshold = 1 },
        },
    });

    private static async Task FollowAsync(Gateway gateway, string run, Dictionary<string, Recording> recordingOf, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        var told = new HashSet<string>();
        var before = "";
        while (true)
        {
            var tasks = await gateway.ListAsync(FunctionName, run, cancellationToken);
            var done = tasks.Where(task => task.IsFinal).ToList();
            var running = tasks.Count(task => task.IsRunning);
            var now = $"waiting {recordingOf.Count - done.Count - running}  running {running}  done {done.Count}";
            if (now != before)
            {
                Console.WriteLine($"{clock.Elapsed.TotalSeconds,6:0.0} s  {now}");
                before = now;
            }

            foreach (var task in done.Where(task => told.Add(task.Id)))
            {
                // Lists leave the history out, the task itself has it.
                var whole = await gateway.GetTaskAsync(FunctionName, task.Id, cancellationToken);
                var queued = whole.Queued is { } wait ? $"queued {wait.TotalSeconds:0.00} s, ran {whole.Ran.TotalSeconds:0.00} s" : "never ran";
                Console.WriteLine($"          {recordingOf[task.Id].FileName,-18} {whole.Status,-10} {queued} {whole.Error}");
            }

            if (done.Count == recordingOf.Count)
            {
                return;
            }

            if (clock.Elapsed > Patience)
            {
                throw new TimeoutException($"after {Patience.TotalMinutes:0} minutes there is still {now}");
            }

            await Task.Delay(BetweenLooks, cancellationToken);
        }
    }
}
