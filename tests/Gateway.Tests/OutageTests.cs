using GpuTasks.Gateway.Http;
using Orleans.Serialization;
using Polly.Timeout;

namespace GpuTasks.Gateway.Tests;

public sealed class OutageTests
{
    /// <summary>A gateway that stands alone does not have the types of the drivers; it knows them by the names that the silo sent.</summary>
    [Theory]
    [InlineData("Npgsql.NpgsqlException,Npgsql", 503)]
    [InlineData("Microsoft.Data.Sqlite.SqliteException,Microsoft.Data.Sqlite", 503)]
    [InlineData("Some.Mistake,Npgsql.Mistake", 500)]
    public void A_fault_of_a_type_that_is_not_here_is_an_outage_if_it_is_one_of_the_store(string type, int status)
    {
        var fault = new UnavailableExceptionFallbackException();
        typeof(UnavailableExceptionFallbackException).GetProperty(nameof(fault.ExceptionType))!.SetValue(fault, type);
        Assert.Equal(status, RequestShell.Translate(fault).Status);
    }

    [Fact]
    public void A_placement_that_took_too_long_is_an_outage() =>
        Assert.Equal(503, RequestShell.Translate(new TimeoutRejectedException()).Status);
}
