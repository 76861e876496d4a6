namespace GpuTasks.Demo;

/// <summary>A recording and what became of its task.</summary>
internal sealed record ReportRow(Recording Recording, TaskRecord Task)
{
    /// <summary>What the function heard, or null if it gave no answer.</summary>
    public SpeechAnswer? Heard { get; } = Task.Status == "Succeeded" ? SpeechAnswer.Read(Task.Result) : null;

    /// <summary>Whether it heard what the file name says.</summary>
    public bool IsRight => Heard?.Transcript == Recording.Spoken;
}

/// <summary>What the demonstration says at its end.</summary>
internal static class Report
{
    /// <summary>The table, and where its figures come from.</summary>
    public static void Write(IReadOnlyList<ReportRow> rows)
    {
        Console.WriteLine();
        Console.WriteLine($"{"recording",-18} {"transcript",-14} {"right",-6} {"status",-10} {"queued s",9} {"run s",7} {"audio s",8} {"decode s",9}  instance");
        foreach (var row in rows)
        {
            Console.WriteLine(
                $"{row.Recording.FileName,-18} {row.Heard?.Transcript ?? "-",-14} {(row.IsRight ? "yes" : "NO"),-6} {row.Task.Status,-10} "
                + $"{row.Task.Queued?.TotalSeconds ?? 0,9:0.00} {row.Task.Ran.TotalSeconds,7:0.00} {row.Heard?.AudioSeconds ?? 0,8:0.00} {row.Heard?.DecodeSeconds ?? 0,9:0.00}  {row.Task.Instance}");
        }

        Console.WriteLine();
        Console.WriteLine($"{rows.Count(row => row.IsRight)} of {rows.Count} transcripts are right.");
        Console.WriteLine("""

            Where the figures come from
              transcript, audio, decode   the function's own answer: returnPayload of GetAsyncTask
              right                       transcript compared with the file name, Front_Left.wav being "front left"
              queued                      GetAsyncTask: time of the first Running event less startedTime (when the task was accepted)
              run                         GetAsyncTask: durationMs, measured in the container by the relay's monotonic clock
              waiting, running, done      statuses of ListAsyncTasks, asked every 0.2 s
              cards                       simulated: they limit how many instances run at once; the decoding uses the processor
            """);
    }

    /// <summary>How to go on by hand.</summary>
    /// <returns>The exit code of a success.</returns>
    public static int Succeeded(string gateway, string recordings, string keyFile)
    {
        Console.WriteLine($$"""

            Go on by hand: ./quickstart --serve (with the same --data and --port), and in another terminal
              KEY=$(cat {{keyFile}}); F={{gateway}}/2023-03-30/functions/{{Demonstration.FunctionName}}
              curl -s -H "Authorization: Bearer $KEY" $F
              curl -s -H "Authorization: Bearer $KEY" -H 'x-fc-invocation-type: Async' -H 'x-fc-async-task-id: my_first' --data-binary @{{recordings}}/Rear_Left.wav $F/invocations
              curl -s -H "Authorization: Bearer $KEY" $F/async-tasks/my_first | grep -o '"returnPayload.*'
              curl -s -H "Authorization: Bearer $KEY" {{gateway}}/v1/functions/{{Demonstration.FunctionName}}/tasks/my_first/logs
            """);
        return 0;
    }
}
