using GpuTasks.Gateway.Http;
using Orleans.Serialization;

namespace GpuTasks.Gateway.Tests;

public sealed class OutageTests
{
    /// <summary>What a silo could not even send is said by the name of the type that has no codec.</summary>
    [Theory]
    [InlineData("Could not find a codec for type Npgsql.NpgsqlException.", 503)]
    [InlineData("Could not find a codec for type Microsoft.Data.Sqlite.SqliteException.", 503)]
    [InlineData("Could not find a codec for type Polly.Timeout.TimeoutRejectedException.", 503)]
    [InlineData("Could not find a codec for type Some.Mistake.", 500)]
    public void A_fault_that_cannot_be_sent_is_an_outage_if_it_is_one_of_store_or_placement(string message, int status) =>
        Assert.Equal(status, RequestShell.Translate(new CodecNotFoundException(message)).Status);
}
